/* What the other side of a vsock connection may send: framing, answers, a whole configuration. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "container/guest_filter.h"
#include "container/guest_protocol.h"
#include "guest/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_text(const struct err *err)
{
    for (const char *p = err->text; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7F) {
            abort(); /* a terminal would obey it */
        }
    }
}

static void check_answers(const json_t *message)
{
    struct err err = ERR_NONE;
    struct guest_exit exit = {0};
    struct container_stats stats = {0};
    bool exec_failed;
    if (guest_answer_check(message, "ok", &exec_failed, &err) < 0) {
        check_text(&err);
        if (err.code <= 0 || err.code > 4095) {
            abort();
        }
    }
    if (guest_exit_read(message, &exit, NULL) == 0) {
        AUTO(json_unrefp) json_t *again = guest_exit_new(&exit);
        struct guest_exit same = {0};
        if (guest_exit_read(again, &same, NULL) < 0 || same.code != exit.code ||
            same.oom_kills != exit.oom_kills) {
            abort();
        }
    }
    if (guest_stats_read(message, &stats, NULL) == 0) {
        AUTO(json_unrefp) json_t *again = guest_stats_new(&stats);
        struct container_stats same = {0};
        if (guest_stats_read(again, &same, NULL) < 0 || same.memory.limit != stats.memory.limit ||
            same.io.count != stats.io.count) {
            abort();
        }
    }
}

static void check_configuration(json_t *message)
{
    AUTO(guest_config_donep) struct guest_config config = {0};
    AUTO(seccomp_filter_donep) struct seccomp_filter filter = {0};
    if (guest_config_parse(message, &config, NULL) < 0) {
        return;
    }
    for (size_t i = 0; i < config.route_count; i++) {
        if (config.routes[i].interface >= config.interface_count) {
            abort();
        }
    }
    if (config.seccomp != NULL && guest_filter_decode(config.seccomp, &filter) == 0) {
        AUTO(freep) char *again = guest_filter_encode(&filter);
        if (again == NULL || strcmp(again, config.seccomp) != 0) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(buf_donep) struct buf in = {0};
    size_t given = 0;
    /* In pieces, as a socket gives them. */
    while (given < len) {
        size_t n = MIN(len - given, (size_t)(1 + data[given] % 64));
        if (buf_add(&in, data + given, n) < 0) {
            return 0;
        }
        given += n;
        json_t *message = NULL;
        int r;
        while ((r = guest_message_take(&in, &message, NULL)) > 0) {
            AUTO(json_unrefp) json_t *owned = message;
            check_answers(owned);
            check_configuration(owned);
        }
        if (r < 0) {
            return 0;
        }
        if (guest_message_missing(&in) == 0) {
            abort();
        }
    }
    return 0;
}
