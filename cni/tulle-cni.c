// SPDX-License-Identifier: Apache-2.0
/*
 * The CNI plugin: hands the call over to the node agent and prints its answer.
 *
 * Static, so that it runs on a node without Python. No logic lives here but for what must be answered
 * without an agent: VERSION; "try again" (code 11) and "not available" (code 50); and DEL, which always
 * succeeds: the call is left in a queue, a file for each, that the agent works off when it starts.
 *
 * The network configuration names the agent's socket in "agentSocket". To the agent go the CNI_ variables
 * as KEY=VALUE with a NUL each, one more NUL, and standard input; back come the exit code as one digit,
 * standard output, and a newline, without which the answer was cut short.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define VERSIONS "\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""
#define DEFAULT_SOCKET "/run/tulle/cni.sock"
#define LARGEST (4 << 20)

extern char **environ;

static char call[LARGEST];
static size_t call_length;
static char *config = call; /* standard input, within call */

static void append(const char *text, size_t length)
{
	if (call_length + length > sizeof(call) - 1)
		length = sizeof(call) - 1 - call_length;
	memcpy(call + call_length, text, length);
	call_length += length;
}

static void read_call(void)
{
	ssize_t got;

	for (char **entry = environ; *entry; entry++)
		if (!strncmp(*entry, "CNI_", 4))
			append(*entry, strlen(*entry) + 1);
	append("", 1);
	config = call + call_length;
	while (call_length < sizeof(call) - 1 &&
	       ((got = read(STDIN_FILENO, call + call_length, sizeof(call) - 1 - call_length)) > 0 ||
		(got < 0 && errno == EINTR)))
		if (got > 0)
			call_length += got;
}

/* Our own values hold no escapes. Those that do cannot be repeated in an error object as they are. */
static int is_plain(const char *from, const char *to)
{
	for (; from < to; from++)
		if (*from == '\\' || (unsigned char)*from < ' ')
			return 0;
	return 1;
}

/* The string behind "key": in the configuration. */
static const char *setting(const char *key, const char *otherwise, char *value, size_t size)
{
	char quoted[64];
	const char *at, *end;

	snprintf(quoted, sizeof(quoted), "\"%s\"", key);
	at = strstr(config, quoted);
	if (!at || !(at = strchr(at + strlen(quoted), '"')) || !(end = strchr(at + 1, '"')) ||
	    (size_t)(end - at) > size || !is_plain(at, end))
		return otherwise;
	snprintf(value, size, "%.*s", (int)(end - at - 1), at + 1);
	return value;
}

static int fail(int code, const char *message, const char *details)
{
	char version[16];

	printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\",\"details\":\"%s\"}\n",
	       setting("cniVersion", "1.1.0", version, sizeof(version)), code, message, details);
	return 1;
}

static int ask_agent(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return -1;
	for (size_t sent = 0; sent < call_length;) {
		ssize_t put = send(fd, call + sent, call_length - sent, MSG_NOSIGNAL);
		if (put < 0)
			return -1;
		sent += put;
	}
	shutdown(fd, SHUT_WR);
	return fd;
}

/* Copies the answer to standard output; the exit code, or -1 when the agent ended before its answer did. */
static int relay(int fd)
{
	static char answer[1 << 20];
	size_t length = 0;
	ssize_t got;

	while ((got = read(fd, answer + length, sizeof(answer) - length)) > 0)
		length += got;
	if (length < 2 || answer[length - 1] != '\n')
		return -1;
	fwrite(answer + 1, 1, length - 2, stdout);
	return answer[0] - '0';
}

/* Leaves the DEL for the next agent, whole or not at all. */
static int queue(const char *path)
{
	const char *id = getenv("CNI_CONTAINERID"), *ifname = getenv("CNI_IFNAME");
	char parent[128], folder[128], partial[512], whole[512], *slash;
	int fd;

	if (!id || !*id || strchr(id, '/') || !ifname || !*ifname || strchr(ifname, '/'))
		return fail(4, "DEL needs CNI_CONTAINERID and CNI_IFNAME", "");
	snprintf(folder, sizeof(folder), "%s.del", path);
	snprintf(partial, sizeof(partial), "%s/.%s:%s", folder, id, ifname);
	snprintf(whole, sizeof(whole), "%s/%s:%s", folder, id, ifname);
	snprintf(parent, sizeof(parent), "%s", path);
	if ((slash = strrchr(parent, '/')))
		*slash = '\0';
	mkdir(parent, 0700); /* it is not there between a boot and the agent's start */
	mkdir(folder, 0700);
	fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, call, call_length) != (ssize_t)call_length || rename(partial, whole))
		return fail(5, "DEL cannot be queued while the agent is away", strerror(errno));
	return 0;
}

int main(void)
{
	const char *command = getenv("CNI_COMMAND") ?: "";
	char buffer[sizeof(((struct sockaddr_un *)0)->sun_path)];
	const char *path;
	int fd, code = -1;

	read_call();
	if (!strcmp(command, "VERSION")) {
		printf("{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[" VERSIONS "]}\n");
		return 0;
	}
	path = setting("agentSocket", DEFAULT_SOCKET, buffer, sizeof(buffer));
	if ((fd = ask_agent(path)) >= 0)
		code = relay(fd);
	if (code >= 0)
		return code;
	if (!strcmp(command, "DEL"))
		return queue(path);
	if (!strcmp(command, "STATUS"))
		return fail(50, "tulle agent is not running on this node", path);
	return fail(11, "tulle agent is not running on this node; try again later", path);
}
