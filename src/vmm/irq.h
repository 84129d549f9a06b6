/*
 * irq.h - one interrupt of a device: raised by writing to an eventfd, from any thread.
 */
#ifndef VMM_IRQ_H
#define VMM_IRQ_H

#include <stdint.h>

struct cpu_engine;
struct err;

struct irq {
    int fd;
};

#define IRQ_NONE ((struct irq){.fd = -1})

/* An edge on global interrupt gsi for each irq_raise(). */
int irq_init_line(struct irq *irq, struct cpu_engine *engine, uint32_t gsi, struct err *err);
void irq_done(struct irq *irq);
void irq_raise(const struct irq *irq);

#endif
