/*
 * image_change.h - Dockerfile instructions that change an image's configuration (--change).
 */
#ifndef CMD_IMAGE_CHANGE_H
#define CMD_IMAGE_CHANGE_H

#include "base/str.h"

struct err;
struct image_config;

/* CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR, ONBUILD; in order. */
int image_change_all(struct image_config *config, const struct strv *changes, struct err *err);

#endif
