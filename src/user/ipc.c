/*
 * ipc.c - System V semaphores and shared memory, where they differ.
 */
#include <errno.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "user/user.h"

/* struct semid64_ds of asm-generic/sembuf.h: that of x86-64 has a word behind each time. */
struct guest_semid {
    struct ipc_perm perm;
    int64_t otime, ctime;
    uint64_t nsems, unused[2];
};

int64_t ipc_semctl(const uint64_t *a)
{
    struct semid_ds host = {.sem_nsems = 0};
    struct guest_semid guest = {.nsems = 0};
    int command = (int)a[2];
    bool reads = command == IPC_STAT || command == SEM_STAT || command == SEM_STAT_ANY;
    if (!reads && command != IPC_SET) {
        long r = syscall(SYS_semctl, a[0], a[1], a[2], a[3]);
        return r < 0 ? -errno : r;
    }
    if (!reads) {
        memcpy(&guest, user_pointer(a[3]), sizeof(guest));
        host.sem_perm = guest.perm;
    }
    long r = syscall(SYS_semctl, a[0], a[1], a[2], &host);
    if (r < 0) {
        return -errno;
    }
    if (reads) {
        guest = (struct guest_semid){
            .perm = host.sem_perm,
            .otime = host.sem_otime,
            .ctime = host.sem_ctime,
            .nsems = host.sem_nsems,
        };
        memcpy(user_pointer(a[3]), &guest, sizeof(guest));
    }
    return r;
}

/* Never to be executed: what a segment of the host's holds is not announced to us. */
int64_t ipc_shmat(struct user *user, const uint64_t *a)
{
    struct shmid_ds ds;
    if ((a[2] & SHM_EXEC) != 0) {
        return -EACCES;
    }
    if (shmctl((int)a[0], IPC_STAT, &ds) < 0) {
        return -errno;
    }
    long at = syscall(SYS_shmat, a[0], a[1], a[2]);
    if (at < 0 && at > -4096) {
        return -errno;
    }
    int64_t r = memory_changed(user, (uint64_t)at, ds.shm_segsz);
    return r < 0 ? r : at;
}
