#include "cmd/image_commands.h"

#define FORWARD(group_, name_, symbol, operands_, summary_)                                        \
    {.group = group_,                                                                              \
     .name = name_,                                                                                \
     .operands = operands_,                                                                        \
     .summary = summary_,                                                                          \
     .helper = "isola-image"},

const struct command image_forward_table[] = {IMAGE_COMMANDS(FORWARD){0}};
