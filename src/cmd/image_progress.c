#include "cmd/image_progress.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/str.h"
#include "image/reference.h"

#define SHORT_ID 12
#define BAR_WIDTH 30
#define REDRAW_NS (80 * NS_PER_MS)

struct line {
    char id[SHORT_ID + 1];
    char state[32];
    uint64_t now, total;
    bool used;
};

struct image_progress {
    pthread_mutex_t mutex;
    bool quiet;
    bool terminal;
    struct line *lines;
    size_t count;
    size_t drawn; /* lines on the screen now */
    int64_t last_ns;
};

int image_progress_new(bool quiet, struct image_progress **ret_progress)
{
    struct image_progress *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return -ENOMEM;
    }
    const char *term = getenv("TERM");
    p->quiet = quiet;
    p->terminal = isatty(STDOUT_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
    (void)pthread_mutex_init(&p->mutex, NULL);
    *ret_progress = p;
    return 0;
}

static void draw_line(const struct line *line, size_t columns)
{
    char text[160];
    char now[32];
    char total[32];
    bool moving =
        line->total > 0 && (str_eq(line->state, "Downloading") || str_eq(line->state, "Pushing"));
    if (moving) {
        char bar[BAR_WIDTH + 1];
        size_t filled = (size_t)(MIN(line->now, line->total) * BAR_WIDTH / line->total);
        memset(bar, ' ', BAR_WIDTH);
        memset(bar, '=', filled);
        if (filled < BAR_WIDTH) {
            bar[filled] = '>';
        }
        bar[BAR_WIDTH] = '\0';
        format_size(line->now, now, sizeof(now));
        format_size(line->total, total, sizeof(total));
        (void)snprintf(text, sizeof(text), "%s: %s [%s] %s/%s", line->id, line->state, bar, now,
                       total);
    } else {
        (void)snprintf(text, sizeof(text), "%s: %s", line->id, line->state);
    }
    (void)printf("\033[2K%.*s\n", (int)columns, text);
}

static void draw(struct image_progress *p, bool now)
{
    int64_t time = clock_monotonic_ns();
    struct winsize size = {0};
    if (!now && time - p->last_ns < REDRAW_NS) {
        return;
    }
    p->last_ns = time;
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    size_t columns = size.ws_col > 1 ? size.ws_col - 1u : 79;
    if (p->drawn > 0) {
        (void)printf("\033[%zuA", p->drawn);
    }
    p->drawn = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (p->lines[i].used) {
            draw_line(&p->lines[i], columns);
            p->drawn++;
        }
    }
    (void)fflush(stdout);
}

static struct line *get_line(struct image_progress *p, size_t layer, const char *digest)
{
    if (layer >= p->count) {
        struct line *lines = reallocarray(p->lines, layer + 1, sizeof(*lines));
        if (lines == NULL) {
            return NULL;
        }
        memset(lines + p->count, 0, (layer + 1 - p->count) * sizeof(*lines));
        p->lines = lines;
        p->count = layer + 1;
    }
    struct line *line = &p->lines[layer];
    if (!line->used) {
        line->used = true;
        (void)snprintf(line->id, sizeof(line->id), "%.12s", digest + DIGEST_HEX_OFFSET);
    }
    return line;
}

static void on_state(void *data, size_t layer, const char *digest, const char *state)
{
    struct image_progress *p = data;
    (void)pthread_mutex_lock(&p->mutex);
    struct line *line = p->quiet ? NULL : get_line(p, layer, digest);
    if (line != NULL && strcmp(line->state, state) != 0) {
        (void)snprintf(line->state, sizeof(line->state), "%s", state);
        if (p->terminal) {
            draw(p, true);
        } else {
            (void)printf("%s: %s\n", line->id, state);
            (void)fflush(stdout);
        }
    }
    (void)pthread_mutex_unlock(&p->mutex);
}

static void on_bytes(void *data, size_t layer, const char *digest, uint64_t now, uint64_t total)
{
    struct image_progress *p = data;
    if (!p->terminal || p->quiet) {
        return;
    }
    (void)pthread_mutex_lock(&p->mutex);
    struct line *line = get_line(p, layer, digest);
    if (line != NULL) {
        line->now = now;
        line->total = total;
        draw(p, false);
    }
    (void)pthread_mutex_unlock(&p->mutex);
}

void image_progress_free(struct image_progress *p)
{
    if (p != NULL) {
        (void)pthread_mutex_destroy(&p->mutex);
        free(p->lines);
        free(p);
    }
}

struct install_progress image_progress_callbacks(struct image_progress *progress)
{
    return (struct install_progress){.state = on_state, .bytes = on_bytes, .data = progress};
}
