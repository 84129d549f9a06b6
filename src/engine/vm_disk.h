/*
 * vm_disk.h - the disk that holds what a machine's workload writes.
 */
#ifndef ENGINE_VM_DISK_H
#define ENGINE_VM_DISK_H

struct err;

/* Its name in ROOT_DIR. */
#define VM_DISK_SCRATCH "scratch.img"

/*
 * ROOT_DIR/scratch.img: an empty ext4 file system of VM_DISK_SIZE bytes that takes only the room of
 * what is in it. Made when missing, from a template that all workloads share. *ret is the caller's.
 */
int vm_disk_scratch(const char *root, const char *root_dir, char **ret, struct err *err);

#endif
