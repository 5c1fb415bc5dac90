// SPDX-License-Identifier: GPL-2.0
/*
 * usage: innetns NAME PROGRAM [ARG...]
 *
 * PROGRAM in a network namespace, with its /sys: what ip-netns(8) calls exec. The tests do that thousands of times,
 * and under emulation most of it would be the loading of ip's libraries: this one is linked statically.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char path[256];
	int fd;

	if (argc < 3)
		errx(2, "usage: innetns NAME PROGRAM [ARG...]");
	snprintf(path, sizeof(path), "/run/netns/%s", argv[1]);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		err(1, "%s", path);
	/* The mounts of here are nobody else's; those of others still arrive. */
	if (unshare(CLONE_NEWNS) || mount("", "/", "none", MS_SLAVE | MS_REC, NULL))
		err(1, "mounts of %s", argv[1]);
	umount2("/sys", MNT_DETACH);
	if (mount(argv[1], "/sys", "sysfs", 0, NULL))
		err(1, "/sys of %s", argv[1]);
	execvp(argv[2], argv + 2);
	err(127, "%s", argv[2]);
}
