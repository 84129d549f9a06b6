#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/log_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A line of a log file: its text lies inside the line. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct log_line line;
    const char *text = (const char *)data;
    if (log_line_parse(text, len, &line) == 0 && (line.text < text || line.text > text + len ||
                                                  line.len > (size_t)(text + len - line.text))) {
        abort();
    }
    return 0;
}
