/*
 * program.h - the command line of isola-emu-aarch64.
 */
#ifndef USER_PROGRAM_H
#define USER_PROGRAM_H

int user_main(int argc, char **argv, char **envp);

#endif
