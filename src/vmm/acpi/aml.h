/*
 * aml.h - a writer of ACPI machine language (ACPI 6.5, chapter 20) and of resource templates (6.4).
 *
 * Terms are written one behind the other; what has a length is opened by its function and closed by
 * aml_end(). The first failure is kept, later calls do nothing: ask aml_done() once.
 */
#ifndef VMM_ACPI_AML_H
#define VMM_ACPI_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define AML_DEPTH_MAX 12

struct aml {
    struct buf *out; /* borrowed */
    int error;       /* 0 or a negative errno */
    unsigned depth;
    size_t open[AML_DEPTH_MAX]; /* where the contents of what is open start */
    bool is_template[AML_DEPTH_MAX];
};

/* 0 when all went well and everything is closed. */
int aml_done(const struct aml *aml);
void aml_end(struct aml *aml);

/* Objects. A name has up to four characters; "\\_SB" style prefixes are taken. */
void aml_scope(struct aml *aml, const char *name);
void aml_device(struct aml *aml, const char *name);
void aml_method(struct aml *aml, const char *name, unsigned args, bool serialized);
/* The value is the next term. */
void aml_name(struct aml *aml, const char *name);
void aml_region(struct aml *aml, const char *name, uint8_t space, uint64_t offset, uint32_t len);
/* One field of 32 bits at the region's start, read and written as a whole. */
void aml_field_32(struct aml *aml, const char *region, const char *name);

/* Data */
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);
/* "PNP0501" as the compressed number. */
void aml_eisa_id(struct aml *aml, const char *id);
void aml_buffer(struct aml *aml, const void *data, size_t len);
void aml_package(struct aml *aml, uint8_t count);

/* Name(name, value) in one. */
void aml_name_integer(struct aml *aml, const char *name, uint64_t value);
void aml_name_string(struct aml *aml, const char *name, const char *text);
void aml_name_eisa_id(struct aml *aml, const char *name, const char *id);

/* Code of methods; operands are the terms that follow. */
void aml_if(struct aml *aml);
void aml_else(struct aml *aml);
void aml_equal(struct aml *aml);
void aml_not(struct aml *aml);
void aml_and(struct aml *aml);   /* a, b, target */
void aml_or(struct aml *aml);    /* a, b, target */
void aml_store(struct aml *aml); /* source, target */
void aml_return(struct aml *aml);
void aml_notify(struct aml *aml, const char *device, uint8_t value);
void aml_dword_field(struct aml *aml, unsigned arg, uint8_t index, const char *name);
void aml_use(struct aml *aml, const char *name);
void aml_local(struct aml *aml, unsigned number);
void aml_arg(struct aml *aml, unsigned number);
void aml_no_target(struct aml *aml);

/* Name(_CRS, ResourceTemplate() { ... }), closed by aml_end(). */
void aml_resources(struct aml *aml);
void aml_res_io(struct aml *aml, uint16_t port, uint8_t len);
void aml_res_memory_32(struct aml *aml, uint32_t base, uint32_t len);
/* Edge triggered, active high, not shared: as an eventfd raises it. */
void aml_res_interrupt(struct aml *aml, uint32_t gsi);
/* Windows of a bridge. */
void aml_res_buses(struct aml *aml, uint16_t first, uint16_t last);
void aml_res_window_32(struct aml *aml, uint32_t base, uint32_t len);
/* Prefetchable. */
void aml_res_window_64(struct aml *aml, uint64_t base, uint64_t len);

#endif
