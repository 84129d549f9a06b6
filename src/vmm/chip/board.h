/*
 * board.h - what the small chips of a board need of it.
 */
#ifndef VMM_CHIP_BOARD_H
#define VMM_CHIP_BOARD_H

#include <stdint.h>

struct bus;
struct cpu_engine;
struct device;
struct err;
struct loop;

/* Why a machine ends. */
enum board_end {
    BOARD_RUNS,
    BOARD_POWER_OFF,  /* the guest switched itself off */
    BOARD_RESET,      /* the guest wants to start anew */
    BOARD_SHUTDOWN,   /* triple fault */
    BOARD_PANIC,      /* the guest said that it panicked (pvpanic) */
    BOARD_DEBUG_EXIT, /* the debug exit port; code is what was written */
    BOARD_UNEMULATED, /* the engine cannot run the guest */
    BOARD_STOPPED,    /* asked for from outside */
    BOARD_SHARE_LOST, /* isola-fs, the server of a share, ended; code says which */
};

struct board {
    struct bus *ports;
    struct bus *mmio;
    struct cpu_engine *engine;
    struct loop *loop;
    /* The guest did what ends the machine. Any thread, with locks of devices held. */
    void (*end)(struct board *board, enum board_end why, uint32_t code);
};

/* Each makes its device, puts it on the bus and hands it over; *ret is freed by its own ops->free.
 */
int uart16550_new(struct board *board, const char *instance, uint16_t port, uint32_t gsi, int in_fd,
                  int out_fd, struct device **ret, struct err *err);
int mc146818_new(struct board *board, uint16_t port, uint32_t gsi, struct device **ret,
                 struct err *err);
int i8042_new(struct board *board, uint16_t port, uint32_t gsi, struct device **ret,
              struct err *err);
int power_new(struct board *board, uint16_t port, uint64_t events, uint32_t gsi,
              struct device **ret, struct err *err);
int debug_exit_new(struct board *board, uint16_t port, struct device **ret, struct err *err);
int pvpanic_new(struct board *board, uint16_t port, struct device **ret, struct err *err);

/* Of i8042: the keys that ask an old system to restart. */
void i8042_press_ctrl_alt_del(struct device *device);
/* Of power: POWER_EVENT_* bits that the guest is to hear of. */
void power_event(struct device *device, uint32_t events);

#endif
