#include "vmm/irq.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "vmm/cpu.h"

int irq_init_line(struct irq *irq, struct cpu_engine *engine, uint32_t gsi, struct err *err)
{
    AUTO(closep) int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return err_set(err, errno, "make interrupt %u", gsi);
    }
    struct cpu_lines *lines = engine->lines;
    int r =
        lines == NULL ? engine->ops->line_attach(engine, gsi, fd) : lines->attach(lines, gsi, fd);
    if (r < 0) {
        return err_set(err, -r, "connect interrupt %u", gsi);
    }
    irq->fd = TAKE_FD(fd);
    return 0;
}

void irq_done(struct irq *irq)
{
    irq->fd = close_fd(irq->fd);
}

void irq_raise(const struct irq *irq)
{
    uint64_t one = 1;
    /* EAGAIN: the counter is full because nobody reads: the interrupt is pending anyway. */
    ssize_t n = irq->fd < 0 ? 0 : write(irq->fd, &one, sizeof(one));
    (void)n;
}
