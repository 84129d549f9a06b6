#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "container/guest_protocol.h"
#include "wall/vm.h"

#define CONNECT_TIMEOUT_MS 10000
#define ERROR_MAX ((size_t)1024)

static json_t *describe(const struct vm_files_request *request)
{
    char name[24];
    json_t *words = json_array();
    for (size_t i = 0; request->words[i] != NULL; i++) {
        if (json_array_append_new(words, json_string(request->words[i])) < 0) {
            json_decref(words);
            return NULL; /* a path that is no UTF-8 */
        }
    }
    (void)snprintf(name, sizeof(name), "files-%d", (int)getpid());
    return json_pack("{s:s, s:s, s:o, s:b}", "type", "files", "name", name, "words", words,
                     "freeze", request->freeze);
}

int vm_files_start(const char *bundle, const struct vm_files_request *request, struct vm_files *ret,
                   struct err *err)
{
    *ret = (struct vm_files)VM_FILES_INIT;
    const bool wanted[3] = {request->input, request->output, true};
    AUTO(json_unrefp) json_t *message = describe(request);
    if (message == NULL) {
        return err_say(err, EILSEQ, "names of files in a machine must be UTF-8");
    }
    ret->control = vm_connect(bundle, -1, CONNECT_TIMEOUT_MS, err);
    int r = ret->control < 0 ? ret->control : vm_streams_listen(&ret->streams, bundle, wanted, err);
    if (r == 0 && vm_streams_describe(&ret->streams, message) < 0) {
        r = err_set(err, ENOMEM, "reach the machine");
    }
    r = r < 0 ? r : vm_ask(ret->control, message, "started", NULL, NULL, err);
    r = r < 0 ? r : vm_streams_accept(&ret->streams, err);
    vm_streams_unlisten(&ret->streams);
    return r;
}

/* "ERRNO text", one line. */
static int read_error(int fd, int code, struct err *err)
{
    AUTO(buf_donep) struct buf said = {0};
    char text[ERR_TEXT_SIZE - 32];
    char *rest = NULL;
    int r = read_fd(fd, ERROR_MAX, &said);
    if (r < 0 || said.len == 0) {
        return err_say(err, EIO, "isola-files in the machine ended with %d", code);
    }
    said.data[strcspn(said.data, "\n")] = '\0';
    long number = strtol(said.data, &rest, 10);
    guest_text_copy(rest[0] == ' ' ? rest + 1 : rest, text, sizeof(text));
    return err_say(err, number > 0 && number < 4096 ? (int)number : EIO, "%s", text);
}

int vm_files_finish(struct vm_files *files, struct err *err)
{
    struct guest_exit exit = {.code = -1};
    AUTO(json_unrefp) json_t *message = NULL;
    if (files->streams.fd[0] >= 0) {
        (void)shutdown(files->streams.fd[0], SHUT_WR);
    }
    files->streams.fd[1] = close_fd(files->streams.fd[1]);
    int r = guest_receive(files->control, -1, &message, err);
    r = r < 0 ? r : guest_exit_read(message, &exit, err);
    if (r < 0) {
        return err_wrap(err, -r, "the machine");
    }
    return exit.code == 0 ? 0 : read_error(files->streams.fd[2], exit.code, err);
}

void vm_files_done(struct vm_files *files)
{
    files->control = close_fd(files->control);
    vm_streams_unlisten(&files->streams);
    for (int i = 0; i < 3; i++) {
        files->streams.fd[i] = close_fd(files->streams.fd[i]);
    }
}
