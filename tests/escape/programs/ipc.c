/* N17: System V and POSIX queues of others. argv: make KEY | look KEY | remove KEY */
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

static void attack(int count, char **arguments) {
    if (count < 2) return;
    int key = strtol(arguments[1], 0, 16);
    char queue[64];
    snprintf(queue, sizeof queue, "/escape-%x", key);
    if (!strcmp(arguments[0], "make")) {
        umask(0);
        tell("shm", shmget(key, 4096, IPC_CREAT | 0666));
        tell("sem", semget(key, 1, IPC_CREAT | 0666));
        tell("msg", msgget(key, IPC_CREAT | 0666));
        tell("mq", mq_open(queue, O_CREAT | O_RDWR, 0666, 0));
        return;
    }
    if (!strcmp(arguments[0], "remove")) {
        shmctl(shmget(key, 0, 0), IPC_RMID, 0);
        semctl(semget(key, 0, 0), 0, IPC_RMID);
        msgctl(msgget(key, 0), IPC_RMID, 0);
        mq_unlink(queue);
        return;
    }
    tell("shm", shmget(key, 0, 0));
    tell("sem", semget(key, 0, 0));
    tell("msg", msgget(key, 0));
    tell("mq", mq_open(queue, O_RDWR));
    struct shmid_ds s;
    struct msqid_ds m;
    struct semid_ds e;
    int seen = 0;
    for (int i = 0; i < 4096; i++) {
        if (shmctl(i, 13 /* SHM_STAT */, &s) >= 0 || errno == EACCES) seen++;
        if (msgctl(i, 11 /* MSG_STAT */, &m) >= 0 || errno == EACCES) seen++;
        if (semctl(i, 0, 18 /* SEM_STAT */, &e) >= 0 || errno == EACCES) seen++;
    }
    text("listed", "%d", seen);
    /* One's own must work. */
    int own = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    tell("own", own);
    shmctl(own, IPC_RMID, 0);
}
