/*
 * self.h - a program of ours that a container cannot overwrite.
 *
 * Until it executes the workload, the first process of a container runs our program, and a
 * container can get at that file by /proc/PID/exe (or by naming /proc/self/exe as its program). The
 * answer: the program runs from a read-only detached mount of itself, or where that is not allowed
 * from a sealed copy in memory. Then whatever a container gets hold of cannot be written, ever.
 */
#ifndef CONTAINER_SELF_H
#define CONTAINER_SELF_H

struct err;

/*
 * First thing in main(): returns 0 when the program already runs from where it cannot be written,
 * else executes itself from there (and does not return). Negative errno on failure.
 */
int self_protect(char *const argv[], struct err *err);

/*
 * A descriptor of the program at path to give to fexecve(): read-only for everybody. A program that
 * starts another of ours this way saves it the second exec in self_protect().
 */
int self_open(const char *path, struct err *err);

#endif
