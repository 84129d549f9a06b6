/*
 * msix.h - message-signalled interrupts of a PCI function (MSI-X: PCI 3.0, 6.8.2): table, pending
 * bits, and an eventfd for each vector that the engine turns into the message.
 *
 * Used with the function's lock held.
 */
#ifndef VMM_PCI_MSIX_H
#define VMM_PCI_MSIX_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/state.h"

struct cpu_engine;
struct device;

#define MSIX_VECTORS_MAX 33 /* 32 queues and the configuration */
#define MSIX_TABLE_ENTRY 16u

/* Message control, at 2 in the capability */
#define MSIX_CONTROL_ENABLE 0x8000u
#define MSIX_CONTROL_MASK 0x4000u

struct msix {
    struct cpu_engine *engine;
    struct device *device; /* for errors of the guest */
    uint32_t count;
    uint64_t address[MSIX_VECTORS_MAX];
    uint32_t data[MSIX_VECTORS_MAX];
    uint8_t masked[MSIX_VECTORS_MAX];
    uint64_t pending; /* one bit a vector */
    bool enabled, all_masked;
    /* Of the engine; not saved */
    int fd[MSIX_VECTORS_MAX]; /* -1: never used so far */
    uint32_t id[MSIX_VECTORS_MAX];
    uint64_t engine_address[MSIX_VECTORS_MAX]; /* what it was told */
    uint32_t engine_data[MSIX_VECTORS_MAX];
};

extern const struct state_table msix_state_table;

/* engine and device are borrowed. */
void msix_init(struct msix *m, struct cpu_engine *engine, struct device *device, uint32_t count);
void msix_done(struct msix *m);
void msix_reset(struct msix *m);
/* After saved state was read. */
void msix_resume(struct msix *m);

/* offset counts from the table or from the pending bits. */
uint64_t msix_table_read(struct msix *m, uint64_t offset, unsigned size);
void msix_table_write(struct msix *m, uint64_t offset, unsigned size, uint64_t value);
uint64_t msix_pending_read(const struct msix *m, uint64_t offset, unsigned size);
/* The guest wrote message control. */
void msix_set_control(struct msix *m, uint16_t control);

/* Sends a vector's message, now or when it is unmasked. Lost while the function has no MSI-X. */
void msix_notify(struct msix *m, unsigned vector);

#endif
