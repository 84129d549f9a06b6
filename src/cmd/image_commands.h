/*
 * image_commands.h - the image commands: names for everybody, rows for isola-image.
 */
#ifndef CMD_IMAGE_COMMANDS_H
#define CMD_IMAGE_COMMANDS_H

#include "base/cleanup.h"
#include "cmd/command.h"

struct err;
struct image_store;

/* X(group, name, symbol, operands, summary): image_SYMBOL_command is in src/cmd/image_SYMBOL.c. */
#define IMAGE_COMMANDS(X)                                                                          \
    X(NULL, "history", history, "IMAGE", "Show how an image was made")                             \
    X(NULL, "images", ls, "[NAME[:TAG]]", "List images")                                           \
    X(NULL, "import", import, "FILE|- [NAME[:TAG]]",                                               \
      "Make an image from a root file system's tar")                                               \
    X(NULL, "load", load, "", "Load images from an archive")                                       \
    X(NULL, "login", login, "[REGISTRY]", "Log in to a registry")                                  \
    X(NULL, "logout", logout, "[REGISTRY]", "Log out from a registry")                             \
    X(NULL, "pull", pull, "NAME[:TAG|@DIGEST]", "Get an image from a registry")                    \
    X(NULL, "push", push, "NAME[:TAG]", "Send an image to a registry")                             \
    X(NULL, "rmi", rm, "IMAGE [IMAGE...]", "Remove images")                                        \
    X(NULL, "save", save, "IMAGE [IMAGE...]", "Save images to an archive")                         \
    X(NULL, "tag", tag, "IMAGE NAME[:TAG]", "Give an image one name more")                         \
    X(NULL, "untag", untag, "NAME[:TAG] [NAME...]", "Take names away, keep the image")             \
    X("image", "bootstrap", bootstrap, "DISTRIBUTION:SUITE [NAME[:TAG]]",                          \
      "Make an image from a distribution's own packages")                                          \
    X("image", "check", check, "", "Compare all images with their digests")                        \
    X("image", "history", history, "IMAGE", "Show how an image was made")                          \
    X("image", "import", import, "FILE|- [NAME[:TAG]]",                                            \
      "Make an image from a root file system's tar")                                               \
    X("image", "inspect", inspect, "IMAGE [IMAGE...]", "Show all about images")                    \
    X("image", "load", load, "", "Load images from an archive")                                    \
    X("image", "ls", ls, "[NAME[:TAG]]", "List images")                                            \
    X("image", "prune", prune, "", "Remove images that nothing uses")                              \
    X("image", "pull", pull, "NAME[:TAG|@DIGEST]", "Get an image from a registry")                 \
    X("image", "push", push, "NAME[:TAG]", "Send an image to a registry")                          \
    X("image", "rm", rm, "IMAGE [IMAGE...]", "Remove images")                                      \
    X("image", "save", save, "IMAGE [IMAGE...]", "Save images to an archive")                      \
    X("image", "tag", tag, "IMAGE NAME[:TAG]", "Give an image one name more")                      \
    X("image", "untag", untag, "NAME[:TAG] [NAME...]", "Take names away, keep the image")

/* Rows that execute isola-image, for `isola`; ends with a NULL name. */
extern const struct command image_forward_table[];

/* The program isola-image. */
int image_main(int argc, char **argv);

#define IMAGE_DECLARE(symbol) extern const struct command image_##symbol##_command
IMAGE_DECLARE(bootstrap);
IMAGE_DECLARE(check);
IMAGE_DECLARE(commit); /* hidden; for the engine's `isola commit` */
IMAGE_DECLARE(history);
IMAGE_DECLARE(import);
IMAGE_DECLARE(inspect);
IMAGE_DECLARE(load);
IMAGE_DECLARE(login);
IMAGE_DECLARE(logout);
IMAGE_DECLARE(ls);
IMAGE_DECLARE(prune);
IMAGE_DECLARE(pull);
IMAGE_DECLARE(push);
IMAGE_DECLARE(rm);
IMAGE_DECLARE(save);
IMAGE_DECLARE(tag);
IMAGE_DECLARE(untag);

/* Opens the store below the command's root directory, made when missing. */
int image_command_store(const struct command_context *context, struct image_store **ret_store,
                        struct err *err);

/* "docker.io/..." of what the user typed; the caller frees. */
int image_command_name(const char *text, char **ret_full, struct err *err);

#endif
