#include "vmm/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"

#define SECTION_MAGIC 0x31534549u /* "IES1" */
#define NAME_MAX_LEN 48

/* magic, name length, version, payload length; then the name; then the payload. */
#define SECTION_HEADER 16

static int add_number(struct buf *out, uint64_t value, unsigned bytes)
{
    uint8_t raw[8];
    store_le64(raw, value);
    return buf_add(out, raw, bytes);
}

static unsigned width_of(enum state_kind kind)
{
    switch (kind) {
    case STATE_U8:
    case STATE_BOOL:
        return 1;
    case STATE_U16:
        return 2;
    case STATE_U32:
        return 4;
    case STATE_U64:
        return 8;
    case STATE_END:
    case STATE_BYTES:
    case STATE_STRUCT:
    case STATE_BUF:
        break;
    }
    return 0;
}

static uint64_t get_number(const void *p, unsigned bytes)
{
    switch (bytes) {
    case 1:
        return *(const uint8_t *)p;
    case 2:
        return *(const uint16_t *)p;
    case 4:
        return *(const uint32_t *)p;
    default:
        return *(const uint64_t *)p;
    }
}

static void set_number(void *p, unsigned bytes, uint64_t value)
{
    switch (bytes) {
    case 1:
        *(uint8_t *)p = (uint8_t)value;
        break;
    case 2:
        *(uint16_t *)p = (uint16_t)value;
        break;
    case 4:
        *(uint32_t *)p = (uint32_t)value;
        break;
    default:
        *(uint64_t *)p = value;
        break;
    }
}

static uint32_t elements(const struct state_field *field, const void *object)
{
    if (field->used == STATE_ALL) {
        return (uint32_t)field->count;
    }
    return *(const uint32_t *)(const void *)((const char *)object + field->used);
}

static int write_fields(struct buf *out, const struct state_table *table, void *object,
                        struct err *err);

static int write_element(struct buf *out, const struct state_field *field, char *at,
                         struct err *err)
{
    if (field->kind == STATE_STRUCT) {
        return write_fields(out, field->table, at, err);
    }
    if (field->kind == STATE_BUF) {
        const struct buf *buf = (const struct buf *)(const void *)at;
        int r = add_number(out, buf->len, 4);
        return r < 0 || buf->len == 0 ? r : buf_add(out, buf->data, buf->len);
    }
    unsigned width = width_of(field->kind);
    return add_number(out, get_number(at, width), width);
}

static int write_fields(struct buf *out, const struct state_table *table, void *object,
                        struct err *err)
{
    if (table->prepare != NULL) {
        int r = table->prepare(object, err);
        if (r < 0) {
            return r;
        }
    }
    for (const struct state_field *f = table->fields; f->kind != STATE_END; f++) {
        char *at = (char *)object + f->offset;
        uint32_t count = elements(f, object);
        int r = f->used == STATE_ALL ? 0 : add_number(out, count, 4);
        if (r == 0 && f->kind == STATE_BYTES) {
            r = buf_add(out, at, count);
            count = 0;
        }
        count = f->kind == STATE_BUF ? MIN(count, 1u) : count; /* one, of count bytes at most */
        for (uint32_t i = 0; r == 0 && i < count; i++) {
            r = write_element(out, f, at + i * f->stride, err);
        }
        if (r < 0) {
            return err_set(err, -r, "save '%s' of '%s'", f->name, table->name);
        }
    }
    return 0;
}

int state_write(struct buf *out, const struct state_table *table, const char *instance,
                void *object, struct err *err)
{
    char name[2 * NAME_MAX_LEN + 2];
    int n = snprintf(name, sizeof(name), "%s %s", table->name, instance);
    if (n < 0 || (size_t)n >= sizeof(name)) {
        return err_say(err, ENAMETOOLONG, "save '%s': the name is too long", table->name);
    }
    size_t head = out->len;
    int r = add_number(out, SECTION_MAGIC, 4);
    r = r < 0 ? r : add_number(out, (uint64_t)n, 2);
    r = r < 0 ? r : add_number(out, table->version, 2);
    r = r < 0 ? r : add_number(out, 0, 8);
    r = r < 0 ? r : buf_add(out, name, (size_t)n);
    if (r < 0) {
        return err_set(err, -r, "save '%s'", name);
    }
    size_t body = out->len;
    r = write_fields(out, table, object, err);
    if (r == 0) {
        store_le64(out->data + head + 8, out->len - body);
    }
    return r;
}

static int read_raw(struct state_reader *reader, void *data, size_t len)
{
    if (len > reader->len - reader->at) {
        return -ENODATA;
    }
    memcpy(data, reader->data + reader->at, len);
    reader->at += len;
    return 0;
}

static int read_number(struct state_reader *reader, unsigned bytes, uint64_t *ret)
{
    uint8_t raw[8] = {0};
    int r = read_raw(reader, raw, bytes);
    if (r == 0) {
        *ret = load_le64(raw);
    }
    return r;
}

static int read_fields(struct state_reader *reader, const struct state_table *table,
                       uint16_t version, void *object, struct err *err);

static int read_buf(struct state_reader *reader, const struct state_field *field, struct buf *buf)
{
    uint64_t len = 0;
    int r = read_number(reader, 4, &len);
    if (r < 0) {
        return r;
    }
    if (len > field->count || len > reader->len - reader->at) {
        return -EMSGSIZE;
    }
    buf_clear(buf);
    r = buf_add(buf, reader->data + reader->at, (size_t)len);
    reader->at += r == 0 ? (size_t)len : 0;
    return r;
}

static int read_element(struct state_reader *reader, const struct state_field *field, char *at,
                        struct err *err)
{
    if (field->kind == STATE_STRUCT) {
        /* Tables inside a section change with it: theirs is the version that we write. */
        return read_fields(reader, field->table, field->table->version, at, err);
    }
    if (field->kind == STATE_BUF) {
        return read_buf(reader, field, (struct buf *)(void *)at);
    }
    uint64_t value = 0;
    unsigned width = width_of(field->kind);
    int r = read_number(reader, width, &value);
    if (r == 0 && field->kind == STATE_BOOL && value > 1) {
        return -EINVAL;
    }
    if (r == 0) {
        set_number(at, width, value);
    }
    return r;
}

static int read_field(struct state_reader *reader, const struct state_field *field, void *object,
                      struct err *err)
{
    char *at = (char *)object + field->offset;
    uint64_t count = field->count;
    if (field->used != STATE_ALL) {
        int r = read_number(reader, 4, &count);
        if (r < 0) {
            return r;
        }
        if (count > field->count) {
            return -EMSGSIZE;
        }
        *(uint32_t *)(void *)((char *)object + field->used) = (uint32_t)count;
    }
    if (field->kind == STATE_BYTES) {
        return read_raw(reader, at, (size_t)count);
    }
    count = field->kind == STATE_BUF ? 1 : count;
    for (uint64_t i = 0; i < count; i++) {
        int r = read_element(reader, field, at + i * field->stride, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int read_fields(struct state_reader *reader, const struct state_table *table,
                       uint16_t version, void *object, struct err *err)
{
    for (const struct state_field *f = table->fields; f->kind != STATE_END; f++) {
        if (f->since > version) {
            continue;
        }
        int r = read_field(reader, f, object, err);
        if (r < 0) {
            return err_wrap(err, -r, "'%s' of '%s'", f->name, table->name);
        }
    }
    return table->check == NULL ? 0 : table->check(object, err);
}

int state_read(struct state_reader *reader, const struct state_table *table, const char *instance,
               void *object, struct err *err)
{
    uint64_t magic = 0;
    uint64_t name_len = 0;
    uint64_t version = 0;
    uint64_t len = 0;
    char name[2 * NAME_MAX_LEN + 2] = "";
    char wanted[sizeof(name)];
    (void)snprintf(wanted, sizeof(wanted), "%s %s", table->name, instance);
    if (read_number(reader, 4, &magic) < 0 || read_number(reader, 2, &name_len) < 0 ||
        read_number(reader, 2, &version) < 0 || read_number(reader, 8, &len) < 0 ||
        magic != SECTION_MAGIC || name_len >= sizeof(name) ||
        read_raw(reader, name, (size_t)name_len) < 0 || len > reader->len - reader->at) {
        return err_say(err, EINVAL, "saved state ends or is damaged where '%s' should be", wanted);
    }
    if (strcmp(name, wanted) != 0) {
        return err_say(err, EINVAL,
                       "saved state has '%s' where this machine has '%s': it is of another machine",
                       name, wanted);
    }
    if (version < table->oldest || version > table->version) {
        return err_say(err, EINVAL, "saved state of '%s' has version %u; this isola reads %u to %u",
                       wanted, (unsigned)version, table->oldest, table->version);
    }
    struct state_reader part = {.data = reader->data + reader->at, .len = (size_t)len, .at = 0};
    int r = read_fields(&part, table, (uint16_t)version, object, err);
    if (r < 0) {
        return err_wrap(err, -r, "saved state of '%s'", wanted);
    }
    if (part.at != part.len) {
        return err_say(err, EINVAL, "saved state of '%s' is longer than its fields", wanted);
    }
    reader->at += (size_t)len;
    return 0;
}
