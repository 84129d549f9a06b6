#include <stdint.h>
#include <string.h>

#include "engine/status.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* status.json: what was read is written and read again the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(scratch_donep) struct scratch scratch;
    struct workload_status status;
    struct workload_status again;
    memset(&status, 0, sizeof(status));
    memset(&again, 0, sizeof(again));
    scratch_open(&scratch);
    scratch_write(&scratch, STATUS_FILE, data, len);
    if (status_read(scratch.fd, &status) < 0) {
        return 0;
    }
    (void)health_name(status.health);
    if (status_write(scratch.fd, &status) < 0 || status_read(scratch.fd, &again) < 0 ||
        status.pid != again.pid || status.pid_start != again.pid_start ||
        status.exit_code != again.exit_code || status.finished_ns != again.finished_ns) {
        abort();
    }
    return 0;
}
