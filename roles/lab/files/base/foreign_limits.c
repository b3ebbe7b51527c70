// SPDX-License-Identifier: GPL-3.0-or-later
//
// Let root read the limits of another user's process where it may not: on a host without CAP_SYS_RESOURCE.
//
// prlimit(2) wants that capability for a process of another user, also for reading; CRIU reads the limits of all
// tasks before it dumps them. /proc/PID/limits says the same to anybody (see proc_pid_limits(5)). This library stands
// before libc's syscall(), by which CRIU asks, and answers from there what the kernel has refused to say. Everything
// else is passed on.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

typedef long (*syscall_function)(long number, ...);

// Where the soft limit begins in each line; the names before it are of this width.
enum { VALUES_COLUMN = 26 };

static rlim_t parse_limit(char **text)
{
	*text += strspn(*text, " ");
	if (strncmp(*text, "unlimited", 9) == 0) {
		*text += 9;
		return RLIM_INFINITY;
	}
	return strtoull(*text, text, 10);
}

// The lines after the heading are in the order of the kernel's numbers.
static int read_limit(int pid, unsigned int resource, struct rlimit *limit)
{
	char path[32], line[128];
	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	FILE *limits = fopen(path, "re");
	if (!limits)
		return 0;
	int found = 0;
	for (unsigned int number = 0; number <= resource + 1; number++)
		found = fgets(line, sizeof(line), limits) && strlen(line) > VALUES_COLUMN;
	fclose(limits);
	if (!found)
		return 0;
	char *text = line + VALUES_COLUMN;
	limit->rlim_cur = parse_limit(&text);
	limit->rlim_max = parse_limit(&text);
	return 1;
}

long syscall(long number, ...)
{
	static syscall_function next;
	if (!next)
		next = (syscall_function)dlsym(RTLD_NEXT, "syscall");

	long arguments[6];
	va_list list;
	va_start(list, number);
	for (int index = 0; index < 6; index++)
		arguments[index] = va_arg(list, long);
	va_end(list);

	long result = next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
	if (result != -1 || errno != EPERM || number != SYS_prlimit64)
		return result;
	struct rlimit *old = (struct rlimit *)arguments[3];
	if (arguments[2] || !old || !read_limit((int)arguments[0], (unsigned int)arguments[1], old)) {
		errno = EPERM;
		return -1;
	}
	return 0;
}
