#include "image/docker_config.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"
#include "image/reference.h"

#define CONFIG_MAX ((size_t)1 << 20)
#define HELPER_OUTPUT_MAX ((size_t)1 << 20)
#define DOCKER_IO_KEY "https://index.docker.io/v1/"

extern char **environ;

void credential_done(struct credential *c)
{
    if (c->password != NULL) {
        explicit_bzero(c->password, strlen(c->password));
    }
    free(c->user);
    free(c->password);
    free(c->token);
    *c = (struct credential){0};
}

static const char *key_of(const char *registry)
{
    return str_eq(registry, REFERENCE_DEFAULT_REGISTRY) ? DOCKER_IO_KEY : registry;
}

static char *config_dir(void)
{
    const char *dir = getenv("DOCKER_CONFIG");
    if (dir != NULL && dir[0] != '\0') {
        return strdup(dir);
    }
    const char *home = getenv("HOME");
    return str_printf("%s/.docker", home != NULL && home[0] != '\0' ? home : "/root");
}

/* An object, empty when there is no file. */
static int load(json_t **ret, struct err *err)
{
    AUTO(freep) char *dir = config_dir();
    AUTO(freep) char *path = dir != NULL ? str_printf("%s/config.json", dir) : NULL;
    if (path == NULL) {
        return err_set(err, ENOMEM, "read Docker's configuration");
    }
    if (access(path, F_OK) < 0 && errno == ENOENT) {
        *ret = json_object();
        return 0;
    }
    int r = json_load_at(AT_FDCWD, path, CONFIG_MAX, ret, err);
    if (r == 0 && !json_is_object(*ret)) {
        json_decref(*ret);
        *ret = NULL;
        return err_say(err, EINVAL, "'%s' is not a JSON object", path);
    }
    return r;
}

int docker_config_decode(const char *base64, struct credential *ret)
{
    size_t len = strlen(base64);
    if (len == 0 || len % 4 != 0 || len > 65536) {
        return -EINVAL;
    }
    AUTO(freep) char *text = malloc(len / 4 * 3 + 1);
    if (text == NULL) {
        return -ENOMEM;
    }
    int n = EVP_DecodeBlock((unsigned char *)text, (const unsigned char *)base64, (int)len);
    if (n < 0) {
        return -EINVAL;
    }
    n -= base64[len - 1] == '=' ? 1 : 0;
    n -= base64[len - 2] == '=' ? 1 : 0;
    text[n] = '\0';
    char *colon = strchr(text, ':');
    if (colon == NULL || strlen(text) != (size_t)n) {
        return -EINVAL;
    }
    *colon = '\0';
    struct credential c = {.user = strdup(text), .password = strdup(colon + 1)};
    explicit_bzero(text, (size_t)n);
    if (c.user == NULL || c.password == NULL) {
        credential_done(&c);
        return -ENOMEM;
    }
    *ret = c;
    return 0;
}

/* The program for a registry, or NULL: "docker-credential-NAME". */
static char *helper_of(const json_t *config, const char *registry)
{
    const char *name =
        json_string_value(json_object_get(json_object_get(config, "credHelpers"), registry));
    if (name == NULL) {
        name = json_string_value(json_object_get(config, "credsStore"));
    }
    return name != NULL && name_is_safe(name) ? str_printf("docker-credential-%s", name) : NULL;
}

/* Runs "HELPER ACTION" with input; collects its output. */
static int run_helper(const char *program, const char *action, const char *input, struct buf *out,
                      struct err *err)
{
    AUTO(closep) int in_fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int pipes[2];
    if (in_fd < 0 || write_full(in_fd, input, strlen(input)) < 0 || lseek(in_fd, 0, SEEK_SET) < 0 ||
        pipe2(pipes, O_CLOEXEC) < 0) {
        return err_set(err, errno, "run '%s'", program);
    }
    AUTO(closep) int from = pipes[0];
    char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)action, NULL};
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, in_fd, STDIN_FILENO);
    (void)posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
    pid_t pid;
    int r = posix_spawnp(&pid, program, &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(pipes[1]);
    if (r != 0) {
        return err_set(err, r, "run '%s'", program);
    }
    int read_result = read_fd(from, HELPER_OUTPUT_MAX, out);
    int status;
    r = process_wait(pid, &status);
    r = r < 0 ? r : read_result;
    if (r < 0) {
        return err_set(err, -r, "run '%s'", program);
    }
    const char *said = out->data != NULL ? out->data : "";
    if (exit_code_of(status) != 0) {
        bool none = strstr(said, "credentials not found") != NULL;
        return err_say(err, none ? ENOENT : EIO, "%s: %.*s", program, (int)strcspn(said, "\n"),
                       said);
    }
    return 0;
}

static int get_from_helper(const char *program, const char *key, struct credential *ret,
                           struct err *err)
{
    AUTO(buf_donep) struct buf out = {0};
    AUTO(json_unrefp) json_t *answer = NULL;
    int r = run_helper(program, "get", key, &out, err);
    if (r == -ENOENT) {
        return 0;
    }
    r = r < 0 ? r : json_parse(out.data != NULL ? out.data : "", out.len, program, &answer, err);
    if (r < 0) {
        return r;
    }
    const char *user = json_string_value(json_object_get(answer, "Username"));
    const char *secret = json_string_value(json_object_get(answer, "Secret"));
    if (user == NULL || secret == NULL) {
        return err_say(err, EINVAL, "%s: no Username and Secret in its answer", program);
    }
    bool token = str_eq(user, "<token>");
    ret->user = strdup(user);
    *(token ? &ret->token : &ret->password) = strdup(secret);
    return ret->user != NULL ? 0 : err_set(err, ENOMEM, "log in");
}

static int get_from_file(const json_t *config, const char *key, struct credential *ret,
                         struct err *err)
{
    const json_t *entry = json_object_get(json_object_get(config, "auths"), key);
    const char *auth = json_string_value(json_object_get(entry, "auth"));
    const char *token = json_string_value(json_object_get(entry, "identitytoken"));
    const char *user = json_string_value(json_object_get(entry, "username"));
    const char *password = json_string_value(json_object_get(entry, "password"));
    int r = 0;
    if (auth != NULL && auth[0] != '\0') {
        r = docker_config_decode(auth, ret);
    } else if (user != NULL && password != NULL) {
        ret->user = strdup(user);
        ret->password = strdup(password);
    }
    if (r == 0 && token != NULL && token[0] != '\0') {
        ret->token = strdup(token);
    }
    return r < 0
               ? err_say(err, EINVAL, "Docker's config.json: the auth of '%s' cannot be read", key)
               : 0;
}

int docker_config_get(const char *registry, struct credential *ret, struct err *err)
{
    AUTO(json_unrefp) json_t *config = NULL;
    AUTO(credential_donep) struct credential c = {0};
    int r = load(&config, err);
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *helper = helper_of(config, registry);
    r = helper != NULL ? get_from_helper(helper, key_of(registry), &c, err)
                       : get_from_file(config, key_of(registry), &c, err);
    if (r < 0) {
        return r;
    }
    *ret = c;
    c = (struct credential){0};
    return 0;
}

static int save(const json_t *config, int dir_fd, struct err *err)
{
    AUTO(freep) char *text = json_dumps(config, JSON_INDENT(4));
    if (text == NULL) {
        return err_set(err, ENOMEM, "write Docker's configuration");
    }
    int r = replace_file_at(dir_fd, "config.json", text, strlen(text), 0600, true);
    return r < 0 ? err_set(err, -r, "write Docker's config.json") : 0;
}

static int open_dir(struct err *err)
{
    AUTO(freep) char *dir = config_dir();
    int r = dir != NULL ? mkdir_parents(dir, 0700) : -ENOMEM;
    int fd = r == 0 ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (r < 0 || fd < 0) {
        return err_set(err, r < 0 ? -r : errno, "open '%s'", dir != NULL ? dir : ".docker");
    }
    return fd;
}

static char *encode(const char *user, const char *password)
{
    AUTO(freep) char *plain = str_printf("%s:%s", user, password);
    size_t len = plain != NULL ? strlen(plain) : 0;
    char *out = plain != NULL ? malloc((len + 2) / 3 * 4 + 1) : NULL;
    if (out != NULL) {
        (void)EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)plain, (int)len);
    }
    return out;
}

int docker_config_store(const char *registry, const char *user, const char *password,
                        struct err *err)
{
    AUTO(json_unrefp) json_t *config = NULL;
    AUTO(closep) int dir = open_dir(err);
    AUTO(closep) int lock = dir < 0 ? -1 : lock_file_at(dir, ".config.lock", LOCK_EXCLUSIVE, true);
    if (lock < 0) {
        return dir < 0 ? dir : err_set(err, -lock, "lock Docker's config.json");
    }
    int r = load(&config, err);
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *helper = helper_of(config, registry);
    if (helper != NULL) {
        AUTO(buf_donep) struct buf out = {0};
        AUTO(json_unrefp)
        json_t *input = json_pack("{s:s, s:s, s:s}", "ServerURL", key_of(registry), "Username",
                                  user, "Secret", password);
        AUTO(freep) char *text = input != NULL ? json_dumps(input, JSON_COMPACT) : NULL;
        return text != NULL ? run_helper(helper, "store", text, &out, err)
                            : err_set(err, ENOMEM, "log in");
    }
    AUTO(freep) char *auth = encode(user, password);
    json_t *auths = json_object_get(config, "auths");
    if (!json_is_object(auths)) {
        auths = json_object();
        (void)json_object_set_new(config, "auths", auths);
    }
    if (auth == NULL ||
        json_object_set_new(auths, key_of(registry), json_pack("{s:s}", "auth", auth)) < 0) {
        return err_set(err, ENOMEM, "log in");
    }
    return save(config, dir, err);
}

int docker_config_erase(const char *registry, struct err *err)
{
    AUTO(json_unrefp) json_t *config = NULL;
    AUTO(closep) int dir = open_dir(err);
    AUTO(closep) int lock = dir < 0 ? -1 : lock_file_at(dir, ".config.lock", LOCK_EXCLUSIVE, true);
    if (lock < 0) {
        return dir < 0 ? dir : err_set(err, -lock, "lock Docker's config.json");
    }
    int r = load(&config, err);
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *helper = helper_of(config, registry);
    if (helper != NULL) {
        AUTO(buf_donep) struct buf out = {0};
        return run_helper(helper, "erase", key_of(registry), &out, err);
    }
    if (json_object_del(json_object_get(config, "auths"), key_of(registry)) < 0) {
        return err_say(err, ENOENT, "not logged in to %s", registry);
    }
    return save(config, dir, err);
}
