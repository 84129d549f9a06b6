/*
 * describe.h - workloads as JSON, in the shapes that Docker's users know.
 */
#ifndef ENGINE_DESCRIBE_H
#define ENGINE_DESCRIBE_H

#include <jansson.h>

#include "engine/workload.h"

struct err;

/* A row of `ps`: ID, Image, Command, CreatedAt, RunningFor, Ports, State, Status, Names, ... */
int describe_row(struct engine *engine, const struct workload *workload, json_t **ret,
                 struct err *err);

/* `inspect`: Id, Created, Path, Args, State, Image, Name, HostConfig, Mounts, Config, ... */
int describe_workload(struct engine *engine, const struct workload *workload, json_t **ret,
                      struct err *err);

/* "Up 5 minutes (healthy)", "Exited (0) 2 hours ago", "Created". */
void describe_status(const struct workload *workload, char *out, size_t size);

#endif
