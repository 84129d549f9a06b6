/* The picture of a comparison: a group of bars for each measure, a bar for each wall. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "cmd/compare.h"

/* All in the units of the picture. */
#define WIDTH 900
#define MARGIN 30
#define LABELS 130 /* width of the walls' names */
#define VALUES 250 /* and of what stands behind a bar */
#define BAR_MAX (WIDTH - 2 * MARGIN - LABELS - VALUES)
#define BAR_HEIGHT 20
#define BAR_STEP 27
#define GROUP_HEAD 34
#define GROUP_GAP 18
#define LINE_HEIGHT 17
#define LINE_CHARS 120 /* that fit at the size of notes */
#define TITLE_CHARS 72

#define INK "#1f2933"
#define GREY "#5f6b76"

static const char *color_of(const char *wall)
{
    static const struct {
        const char *wall;
        const char *color;
    } colors[] = {{"bare", "#8793a0"}, {"container", "#2b6cb0"}, {"vm", "#c05621"}};
    for (size_t i = 0; i < COUNT(colors); i++) {
        if (str_eq(colors[i].wall, wall)) {
            return colors[i].color;
        }
    }
    return "#4a7c59";
}

/* At most max characters of UTF-8 text. Control characters have no place in XML. */
static int add_text(struct buf *out, const char *text, size_t len)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '<') {
            r = buf_add_str(out, "&lt;");
        } else if (c == '>') {
            r = buf_add_str(out, "&gt;");
        } else if (c == '&') {
            r = buf_add_str(out, "&amp;");
        } else {
            r = buf_add_char(out, c < ' ' || c == 0x7f ? ' ' : (char)c);
        }
    }
    return r;
}

/* The bytes of at most max characters: a character is never cut. */
static size_t bytes_of(const char *text, size_t max)
{
    size_t i = 0;
    for (size_t seen = 0; text[i] != '\0'; i++) {
        seen += ((unsigned char)text[i] & 0xc0) != 0x80;
        if (seen > max) {
            break;
        }
    }
    return i;
}

static int add_line(struct buf *out, int x, int y, int size, const char *look, const char *text,
                    size_t len)
{
    int r = buf_printf(out, "<text x=\"%d\" y=\"%d\" font-size=\"%d\" %s>", x, y, size, look);
    r = r < 0 ? r : add_text(out, text, len);
    return r < 0 ? r : buf_add_str(out, "</text>\n");
}

/* Broken at blanks. *y is the base of the first line, then of the one behind the last. */
static int add_note(struct buf *out, int *y, const char *text)
{
    int r = 0;
    while (r == 0 && *text != '\0') {
        size_t len = bytes_of(text, LINE_CHARS);
        size_t cut = len;
        while (text[len] != '\0' && cut > 0 && text[cut] != ' ') {
            cut--;
        }
        len = cut > 0 ? cut : len;
        r = add_line(out, MARGIN, *y, 12, "fill=\"" GREY "\"", text, len);
        *y += LINE_HEIGHT;
        text += len;
        text += strspn(text, " ");
    }
    return r;
}

static int add_bar(struct buf *out, int y, const char *wall, double share, const char *value)
{
    double width = share * BAR_MAX;
    width = width > 0.0 && width < 1.0 ? 1.0 : width;
    int base = y + BAR_HEIGHT - 5;
    int r = add_line(out, MARGIN, base, 14, "fill=\"" INK "\"", wall, strlen(wall));
    r = r < 0 ? r
              : buf_printf(out,
                           "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\" "
                           "fill=\"%s\"/>\n",
                           MARGIN + LABELS, y, width, BAR_HEIGHT, color_of(wall));
    return r < 0 ? r
                 : add_line(out, MARGIN + LABELS + (int)width + 8, base, 14, "fill=\"" INK "\"",
                            value, strlen(value));
}

static int add_head(struct buf *out, int y, const char *name, const char *what)
{
    int r = add_line(out, MARGIN, y + 16, 15, "font-weight=\"bold\" fill=\"" INK "\"", name,
                     strlen(name));
    return r < 0 ? r
                 : add_line(out, MARGIN + LABELS, y + 16, 12, "fill=\"" GREY "\"", what,
                            strlen(what));
}

static int add_measure(const struct compare_result *result, enum compare_measure measure,
                       const char *name, const char *what, int *y, struct buf *out)
{
    int64_t largest = 1;
    for (size_t i = 0; i < result->count; i++) {
        const struct compare_spread *s = &result->rows[i].measures[measure];
        largest = s->set ? MAX(largest, s->median) : largest;
    }
    int r = add_head(out, *y, name, what);
    *y += GROUP_HEAD - 8;
    for (size_t i = 0; r == 0 && i < result->count; i++) {
        const struct compare_row *row = &result->rows[i];
        const struct compare_spread *s = &row->measures[measure];
        char value[128] = "no output";
        if (!row->ran) {
            continue;
        }
        if (s->set) {
            char median[32];
            char low[32];
            char high[32];
            compare_format(measure, s->median, median, sizeof(median));
            compare_format(measure, s->min, low, sizeof(low));
            compare_format(measure, s->max, high, sizeof(high));
            (void)snprintf(value, sizeof(value), "%s (%s to %s)", median, low, high);
        }
        double share = s->set ? (double)s->median / (double)largest : 0.0;
        r = add_bar(out, *y, row->wall, share, value);
        *y += BAR_STEP;
    }
    *y += GROUP_GAP;
    return r;
}

static int add_surface(const struct compare_result *result, int *y, struct buf *out)
{
    size_t largest = 1;
    for (size_t i = 0; i < result->count; i++) {
        largest = result->rows[i].ran ? MAX(largest, result->rows[i].surface.calls) : largest;
    }
    int r = add_head(out, *y, "System calls",
                     "of the host's kernel that stay open to what is behind the wall");
    *y += GROUP_HEAD - 8;
    for (size_t i = 0; r == 0 && i < result->count; i++) {
        const struct surface *surface = &result->rows[i].surface;
        char value[64];
        if (!result->rows[i].ran) {
            continue;
        }
        (void)snprintf(value, sizeof(value), "%zu", surface->calls);
        if (surface->devices > 0) {
            (void)snprintf(value, sizeof(value), "%zu, behind %zu devices", surface->calls,
                           surface->devices);
        }
        r = add_bar(out, *y, result->rows[i].wall, (double)surface->calls / (double)largest, value);
        *y += BAR_STEP;
    }
    *y += GROUP_GAP;
    return r;
}

static int add_title(const struct compare_result *result, int *y, struct buf *out)
{
    AUTO(freep)
    char *title = str_printf("isola compare %s %s", result->image, result->command);
    AUTO(freep)
    char *below =
        str_printf("Medians of %lld runs after one more; in brackets the smallest and the "
                   "largest",
                   (long long)result->runs);
    if (title == NULL || below == NULL) {
        return -ENOMEM;
    }
    size_t len = bytes_of(title, TITLE_CHARS);
    if (title[len] != '\0') {
        len = bytes_of(title, TITLE_CHARS - 3);
        memcpy(title + len, "...", 3); /* there are more than that */
        len += 3;
    }
    int r = add_line(out, MARGIN, *y + 12, 20, "font-weight=\"bold\" fill=\"" INK "\"", title, len);
    r = r < 0 ? r : add_line(out, MARGIN, *y + 36, 13, "fill=\"" GREY "\"", below, strlen(below));
    *y += 60;
    return r;
}

static int add_notes(const struct compare_result *result, int *y, struct buf *out)
{
    int r = 0;
    *y += LINE_HEIGHT / 2;
    for (size_t i = 0; r == 0 && i < result->count; i++) {
        const struct compare_row *row = &result->rows[i];
        AUTO(buf_donep) struct buf text = {0};
        if (row->ran) {
            r = buf_printf(&text, "%s: exit code %d; %s.", row->wall, row->exit_code,
                           row->surface.note);
        } else {
            r = buf_printf(&text, "%s: not available here: %s.", row->wall, err_text(&row->reason));
        }
        r = r < 0 ? r : add_note(out, y, text.data);
    }
    return r;
}

static int add_body(const struct compare_result *result, int *y, struct buf *out)
{
    bool cgroup = true;
    for (size_t i = 0; i < result->count; i++) {
        cgroup = cgroup && (!result->rows[i].ran || result->rows[i].has_cgroup);
    }
    int r = add_title(result, y, out);
    r = r < 0
            ? r
            : add_measure(result, COMPARE_START, "Start", "until the first byte of output", y, out);
    r = r < 0 ? r : add_measure(result, COMPARE_TOTAL, "Whole run", "until the end", y, out);
    r = r < 0 ? r
              : add_measure(result, COMPARE_MEMORY, "Peak memory",
                            cgroup ? "of the cgroup, files that it cached included"
                                   : "of the largest process",
                            y, out);
    r = r < 0 ? r
              : add_measure(result, COMPARE_CPU, "CPU time",
                            "user and system, of all processes that came of it", y, out);
    r = r < 0 ? r : add_surface(result, y, out);
    return r < 0 ? r : add_notes(result, y, out);
}

int compare_svg(const struct compare_result *result, struct buf *out)
{
    AUTO(buf_donep) struct buf body = {0};
    int y = MARGIN;
    int r = add_body(result, &y, &body);
    r = r < 0 ? r
              : buf_printf(out,
                           "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                           "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                           "viewBox=\"0 0 %d %d\" font-family=\"Helvetica, Arial, sans-serif\">\n"
                           "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
                           WIDTH, y + MARGIN / 2, WIDTH, y + MARGIN / 2);
    r = r < 0 ? r : buf_add(out, body.data, body.len);
    return r < 0 ? r : buf_add_str(out, "</svg>\n");
}
