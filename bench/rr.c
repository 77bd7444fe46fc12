// SPDX-License-Identifier: Apache-2.0
/*
 * TCP between two network namespaces: how many requests of one byte are answered in a second, on one
 * connection or each on a new one, and how many bytes get through.
 *
 *   rr serve PORT CPU                                    prints "ready" once it listens, then serves one client
 *                                                        at a time
 *   rr requests|connections|stream ADDRESS PORT MS CPU   prints answers, connections or bytes per second
 *
 * C, because an interpreter at both ends would cost more than the way in between. Client and server are
 * pinned to the same CPU: waking another one takes longer than forwarding a packet does. They run with
 * real-time priority, and the result is the median of short windows, so that it does not tell what else
 * the machine did.
 */
#define _GNU_SOURCE
#include <err.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP_SECONDS 0.05
#define PATIENCE_SECONDS 10 /* for a network that does not answer */
#define REQUESTS 'r'
#define CONNECTIONS 'c'
#define STREAM 's'
#define REQUESTS_PER_WINDOW 64
#define CONNECTIONS_PER_WINDOW 32
#define BYTES_PER_WINDOW (4 << 20)
#define MOST_WINDOWS 65536

static char buffer[1 << 17];
static double window[MOST_WINDOWS]; /* seconds each */
static int windows;

static void pin(const char *cpu)
{
	struct sched_param priority = { .sched_priority = 1 };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(atoi(cpu), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "pin to CPU %s", cpu);
	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		err(1, "get real-time priority");
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void answer_at_once(int fd)
{
	struct timeval patience = { .tv_sec = PATIENCE_SECONDS };
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

/* Ends a window that began at `start`, and begins the next one. */
static double end_window(double start)
{
	double end = now();

	if (windows < MOST_WINDOWS)
		window[windows++] = end - start;
	return end;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of what a window holds `amount`, per second; 0 when there was no whole window. */
static double median_rate(double amount)
{
	qsort(window, windows, sizeof(window[0]), compare);
	return windows ? amount / window[windows / 2] : 0;
}

static void answer_requests(int fd)
{
	while (read(fd, buffer, 1) == 1)
		if (write(fd, buffer, 1) != 1)
			return;
}

/* Takes the stream to its end, and answers with its rate. */
static void measure_stream(int fd)
{
	uint64_t received = 0;
	double start = now(), rate;
	ssize_t got;

	windows = 0;
	while ((got = read(fd, buffer, sizeof(buffer))) > 0) {
		received += got;
		if (received >= BYTES_PER_WINDOW) {
			start = end_window(start);
			received -= BYTES_PER_WINDOW;
		}
	}
	rate = median_rate(BYTES_PER_WINDOW);
	if (write(fd, &rate, sizeof(rate)) < 0)
		warn("tell the client the rate");
}

static void serve_one(int fd)
{
	char mode;

	answer_at_once(fd);
	if (read(fd, &mode, 1) != 1)
		return;
	if (mode == REQUESTS)
		answer_requests(fd);
	else if (mode == CONNECTIONS) /* whoever closes first waits for stray packets: not the client and its ports */
		(void)!write(fd, &mode, 1);
	else
		measure_stream(fd);
}

static void serve(const char *port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(port)) };
	int listener = socket(AF_INET6, SOCK_STREAM, 0), on = 1, fd;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&any, sizeof(any)) || listen(listener, 8))
		err(1, "listen on port %s", port);
	puts("ready");
	fflush(stdout);
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		serve_one(fd);
		close(fd);
	}
	err(1, "accept");
}

static struct addrinfo *resolve(const char *address, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *found;

	if (getaddrinfo(address, port, &hints, &found))
		errx(1, "%s is no address", address);
	return found;
}

static int dial(const struct addrinfo *to)
{
	int fd = socket(to->ai_family, SOCK_STREAM, 0);

	answer_at_once(fd);
	if (connect(fd, to->ai_addr, to->ai_addrlen))
		err(1, "connect");
	return fd;
}

static void ask_until(int fd, double end)
{
	double start = now();
	char byte = REQUESTS;

	do {
		for (int i = 0; i < REQUESTS_PER_WINDOW; i++)
			if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
				err(1, "no answer");
		start = end_window(start);
	} while (start < end);
}

static double requests(int fd, double seconds)
{
	char mode = REQUESTS;

	if (write(fd, &mode, 1) != 1)
		err(1, "start");
	ask_until(fd, now() + WARM_UP_SECONDS);
	windows = 0;
	ask_until(fd, now() + seconds);
	return median_rate(REQUESTS_PER_WINDOW);
}

static void connect_until(const struct addrinfo *to, double end)
{
	double start = now();
	char byte;

	do {
		for (int i = 0; i < CONNECTIONS_PER_WINDOW; i++) {
			int fd = dial(to);

			byte = CONNECTIONS;
			if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 0)
				err(1, "no answer");
			close(fd);
		}
		start = end_window(start);
	} while (start < end);
}

static double connections(const struct addrinfo *to, double seconds)
{
	connect_until(to, now() + WARM_UP_SECONDS);
	windows = 0;
	connect_until(to, now() + seconds);
	return median_rate(CONNECTIONS_PER_WINDOW);
}

static double stream(int fd, double seconds)
{
	double end = now() + seconds, rate;
	char mode = STREAM;

	if (write(fd, &mode, 1) != 1)
		err(1, "start");
	while (now() < end)
		if (write(fd, buffer, sizeof(buffer)) < 0)
			err(1, "send");
	shutdown(fd, SHUT_WR);
	if (recv(fd, &rate, sizeof(rate), MSG_WAITALL) != sizeof(rate))
		err(1, "no result");
	return rate;
}

static double measure(const char *what, const struct addrinfo *to, double seconds)
{
	if (!strcmp(what, "connections"))
		return connections(to, seconds);
	return (strcmp(what, "stream") ? requests : stream)(dial(to), seconds);
}

int main(int argc, char **argv)
{
	bool serving = argc == 4 && !strcmp(argv[1], "serve");

	if (!serving && argc != 6)
		errx(2, "usage: rr serve PORT CPU | rr requests|connections|stream ADDRESS PORT MS CPU");
	pin(argv[argc - 1]);
	if (serving)
		serve(argv[2]);
	printf("%.0f\n", measure(argv[1], resolve(argv[2], argv[3]), atoi(argv[4]) * 1e-3));
	return 0;
}
