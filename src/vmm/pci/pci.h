/*
 * pci.h - one PCI bus (PCI Local Bus 3.0, 6; PCI Express 5.0, 7.2.2): functions, their
 * configuration space and where their regions are.
 *
 * Bus 0 only, function 0 of each slot only; a host bridge sits in slot 0. Configuration space is
 * reached through memory (ECAM) and through the ports 0xcf8 and 0xcfc. All regions are memory.
 *
 * Locks are taken in this order: the bus's, a function's, then those below (vmm/bus.h). A device
 * that holds its lock must not call functions here, except from the ops below.
 */
#ifndef VMM_PCI_PCI_H
#define VMM_PCI_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/bus.h"
#include "vmm/device.h"

struct err;
struct pci;
struct pci_function;

#define PCI_SLOTS 32
#define PCI_CONFIG_SIZE 256
#define PCI_BARS 6

/* Configuration space (6.1) */
enum {
    PCI_VENDOR = 0x00,
    PCI_DEVICE = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS = 0x09, /* 3 bytes: interface, sub class, class */
    PCI_BAR = 0x10,
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM = 0x2e,
    PCI_CAPABILITIES = 0x34,
};
#define PCI_COMMAND_MEMORY 2u

struct pci_bar {
    uint64_t size; /* a power of two, at least 16; 0: none */
    bool wide;     /* 64 bits: the next one is its upper half */
    const struct bus_ops *ops;
    void *device;
    bool mapped;
    uint64_t base; /* while mapped */
};

/* All with the function's lock held; each may be NULL. */
struct pci_function_ops {
    /* The region answers at base from now on, or no longer. */
    void (*mapped)(struct pci_function *f, unsigned bar, uint64_t base, bool on);
    /* Bytes of config are about to be read; bring them up to date. */
    void (*reading)(struct pci_function *f, unsigned offset, unsigned size);
    /* Bytes of config were written, as far as the mask allows. */
    void (*written)(struct pci_function *f, unsigned offset, unsigned size);
};

struct pci_function {
    const struct pci_function_ops *ops;
    struct pci *pci;       /* NULL until pci_add() */
    pthread_mutex_t *lock; /* around the following */
    struct device *device; /* for errors of the guest */
    uint8_t slot;
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t mask[PCI_CONFIG_SIZE]; /* bits that the guest may change */
    uint8_t power_on[PCI_CONFIG_SIZE];
    unsigned capabilities_end; /* where the next capability goes */
    uint8_t last_capability;
    struct pci_bar bar[PCI_BARS];
};

/* Keeps configuration space, and with it where regions are: they move in pci_function_resume(). */
extern const struct state_table pci_function_state_table;

/* Windows for regions; low lies below 4 GiB. */
struct pci_options {
    struct bus *mmio, *ports; /* borrowed */
    uint64_t ecam;            /* 1 MiB */
    uint16_t config_port;     /* 8 ports */
    uint64_t low_base, low_size;
};

int pci_new(const struct pci_options *options, struct pci **ret, struct err *err);
/* Accepts NULL. All functions are removed already. */
void pci_free(struct pci *pci);
DEFINE_FREEP(struct pci *, pci_free)
/* The bus itself, for the machine's list: freed by its own ops->free. */
struct device *pci_device(struct pci *pci);
/* Where regions are; for doorbells. */
struct bus *pci_mmio_bus(struct pci *pci);

struct pci_ids {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint8_t revision;
    uint32_t class_code; /* class, sub class, interface in 24 bits */
};

/* On zeroed memory. lock and device outlive the function. */
void pci_function_init(struct pci_function *f, const struct pci_function_ops *ops,
                       const struct pci_ids *ids, pthread_mutex_t *lock, struct device *device);
void pci_function_set_bar(struct pci_function *f, unsigned bar, uint64_t size, bool wide,
                          const struct bus_ops *ops, void *device);
/* A capability of len bytes, id and next included: its offset, zeroed and read-only otherwise. */
unsigned pci_function_add_capability(struct pci_function *f, uint8_t id, unsigned len);

/* Puts f into the next free slot and gives its regions addresses. The config is as at power-on. */
int pci_add(struct pci *pci, struct pci_function *f, struct err *err);
/* No CPU runs. Nothing happens if it was not added. */
void pci_remove(struct pci_function *f);

/* The lock is held. */
void pci_function_reset(struct pci_function *f);
void pci_function_resume(struct pci_function *f);

#endif
