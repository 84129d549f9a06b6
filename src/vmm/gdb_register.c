/*
 * Registers as gdb numbers them: the features org.gnu.gdb.i386.core, sse and segments.
 */
#include <string.h>

#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/gdb_packet.h"
#include "vmm/x86_state.h"

#define REG(name, type) "<reg name=\"" name "\" bitsize=\"64\" type=\"" type "\"/>"
#define WORD(name) "<reg name=\"" name "\" bitsize=\"32\" type=\"int32\"/>"
#define X87(name) "<reg name=\"" name "\" bitsize=\"80\" type=\"i387_ext\"/>"
#define XMM(name) "<reg name=\"" name "\" bitsize=\"128\" type=\"vec128\"/>"

const char gdb_target_xml[] =
    "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
    "<architecture>i386:x86-64</architecture><feature name=\"org.gnu.gdb.i386.core\">"
    "<flags id=\"eflags\" size=\"4\"><field name=\"CF\" start=\"0\" end=\"0\"/>"
    "<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
    "<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
    "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
    "<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
    "</flags>" REG("rax", "int64") REG("rbx", "int64") REG("rcx", "int64") REG("rdx", "int64") REG(
        "rsi", "int64") REG("rdi", "int64") REG("rbp", "data_ptr") REG("rsp", "data_ptr")
        REG("r8", "int64") REG("r9", "int64") REG("r10", "int64") REG("r11", "int64") REG(
            "r12", "int64") REG("r13", "int64") REG("r14", "int64") REG("r15", "int64")
            REG("rip", "code_ptr") "<reg name=\"eflags\" bitsize=\"32\" type=\"eflags\"/>" WORD(
                "cs") WORD("ss") WORD("ds") WORD("es") WORD("fs") WORD("gs") X87("st0") X87("st1")
                X87("st2") X87("st3") X87("st4") X87("st5") X87("st6") X87("st7") WORD("fctrl")
                    WORD("fstat") WORD("ftag") WORD("fiseg") WORD("fioff") WORD("foseg") WORD(
                        "fooff")
                        WORD("fop") "</feature><feature name=\"org.gnu.gdb.i386.sse\">"
                                    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
                                    "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
                                    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
                                    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
                                    "<field name=\"v2_double\" type=\"v2d\"/><field "
                                    "name=\"v2_int64\" type=\"v2i64\"/>"
                                    "<field name=\"uint128\" type=\"uint128\"/></union>" XMM("xmm0")
                                        XMM("xmm1") XMM("xmm2") XMM("xmm3") XMM("xmm4") XMM("xmm5")
                                            XMM("xmm6") XMM("xmm7") XMM("xmm8") XMM("xmm9") XMM(
                                                "xmm10") XMM("xmm11") XMM("xmm12") XMM("xmm13")
                                                XMM("xmm14") XMM("xmm15") WORD(
                                                    "mxcsr") "</feature><feature "
                                                             "name=\"org.gnu.gdb.i386."
                                                             "segments\">" REG("fs_base", "int64")
                                                                 REG("gs_base",
                                                                     "int64") "</feature></target>";

enum {
    GENERAL = 0,
    RIP = 16,
    EFLAGS = 17,
    SELECTORS = 18,
    ST = 24,
    X87_CONTROL = 32,
    SSE = 40,
    MXCSR = 56,
    FS_BASE = 57,
    GS_BASE = 58,
};

/* The legacy region of the XSAVE area (SDM vol. 1, 13.4.1). */
enum { AT_FCW = 0, AT_FSW = 2, AT_FTW = 4, AT_FOP = 6, AT_FIP = 8, AT_FDP = 16, AT_MXCSR = 24 };
#define AT_ST 32
#define AT_XMM 160

static const uint8_t general[] = {X86_RAX, X86_RBX, X86_RCX, X86_RDX, X86_RSI, X86_RDI,
                                  X86_RBP, X86_RSP, X86_R8,  X86_R9,  X86_R10, X86_R11,
                                  X86_R12, X86_R13, X86_R14, X86_R15};
static const uint8_t selectors[] = {X86_CS, X86_SS, X86_DS, X86_ES, X86_FS, X86_GS};

static uint32_t x87_control(const uint8_t *area, unsigned number)
{
    switch (number) {
    case 0:
        return load_le16(area + AT_FCW);
    case 1:
        return load_le16(area + AT_FSW);
    case 2: {
        /* One bit a register here, two there: 0 valid, 3 empty. */
        uint32_t tags = 0;
        for (unsigned i = 0; i < 8; i++) {
            tags |= (area[AT_FTW] >> i & 1u) != 0 ? 0 : 3u << (2 * i);
        }
        return tags;
    }
    case 3:
        return load_le16(area + AT_FIP + 4);
    case 4:
        return load_le32(area + AT_FIP);
    case 5:
        return load_le16(area + AT_FDP + 4);
    case 6:
        return load_le32(area + AT_FDP);
    default:
        return load_le16(area + AT_FOP);
    }
}

static size_t put32(uint8_t *data, uint32_t value)
{
    store_le32(data, value);
    return 4;
}

static size_t put64(uint8_t *data, uint64_t value)
{
    store_le64(data, value);
    return 8;
}

size_t gdb_register_get(const struct x86_state *state, unsigned number,
                        uint8_t data[GDB_REGISTER_MAX])
{
    if (number < RIP) {
        return put64(data, state->reg[general[number]]);
    }
    if (number < SELECTORS) {
        return number == RIP ? put64(data, state->rip) : put32(data, (uint32_t)state->rflags);
    }
    if (number < ST) {
        return put32(data, state->segment[selectors[number - SELECTORS]].selector);
    }
    if (number < X87_CONTROL) {
        memcpy(data, state->xsave + AT_ST + (size_t)16 * (number - ST), 10);
        return 10;
    }
    if (number < SSE) {
        return put32(data, x87_control(state->xsave, number - X87_CONTROL));
    }
    if (number < MXCSR) {
        memcpy(data, state->xsave + AT_XMM + (size_t)16 * (number - SSE), 16);
        return 16;
    }
    switch (number) {
    case MXCSR:
        return put32(data, load_le32(state->xsave + AT_MXCSR));
    case FS_BASE:
        return put64(data, state->segment[X86_FS].base);
    case GS_BASE:
        return put64(data, state->segment[X86_GS].base);
    default:
        return 0;
    }
}

size_t gdb_register_writable(unsigned number)
{
    if (number <= RIP || number == FS_BASE || number == GS_BASE) {
        return 8;
    }
    return number == EFLAGS ? 4 : 0;
}

void gdb_register_set(struct x86_state *state, unsigned number, const uint8_t *data)
{
    if (number < RIP) {
        state->reg[general[number]] = load_le64(data);
    } else if (number == RIP) {
        state->rip = load_le64(data);
    } else if (number == EFLAGS) {
        state->rflags = load_le32(data) | 2;
    } else {
        state->segment[number == FS_BASE ? X86_FS : X86_GS].base = load_le64(data);
    }
}
