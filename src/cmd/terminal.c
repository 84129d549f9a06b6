#include "cmd/terminal.h"

#include <errno.h>
#include <sys/ioctl.h>

int terminal_set_raw(struct terminal *terminal, int fd)
{
    struct termios raw;
    terminal->fd = fd;
    if (tcgetattr(fd, &terminal->before) < 0) {
        return -errno;
    }
    raw = terminal->before;
    cfmakeraw(&raw);
    if (tcsetattr(fd, TCSADRAIN, &raw) < 0) {
        return -errno;
    }
    terminal->raw = true;
    return 0;
}

void terminal_restore(struct terminal *terminal)
{
    if (terminal->raw) {
        (void)tcsetattr(terminal->fd, TCSADRAIN, &terminal->before);
        terminal->raw = false;
    }
}

uint32_t terminal_size(int fd)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) < 0) {
        return 0;
    }
    return (uint32_t)size.ws_row << 16 | size.ws_col;
}
