// SPDX-License-Identifier: GPL-2.0
/*
 * plaintcp: carries standard input to standard output over TCP, with nothing
 * but the sockets API of old. What librspreload.so is for.
 *
 *   plaintcp ADDRESS PORT         serves one client: its bytes to standard output
 *   plaintcp -c ADDRESS PORT      client: standard input to the server
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void all(ssize_t (*f)(int fd, const void *buf, size_t n), int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t done = f(fd, p, n);

		if (done <= 0)
			die("write");
		p += done;
		n -= done;
	}
}

int main(int argc, char **argv)
{
	int client = argc > 1 && !strcmp(argv[1], "-c"), on = 1, s, c;
	struct sockaddr_in a = { .sin_family = AF_INET };
	static char buf[64 * 1024];
	uint64_t sum = 0, his;
	ssize_t n;

	if (argc < 3 + client || !inet_aton(argv[1 + client], &a.sin_addr))
		return 2;
	a.sin_port = htons(atoi(argv[2 + client]));
	s = socket(AF_INET, SOCK_STREAM, 0);
	if (s < 0)
		die("socket");
	if (client) {
		if (connect(s, (struct sockaddr *)&a, sizeof(a)))
			die("connect");
		while ((n = read(0, buf, sizeof(buf))) > 0) {
			all(write, s, buf, n);
			sum += n;
		}
		shutdown(s, SHUT_WR);
		if (recv(s, &his, sizeof(his), MSG_WAITALL) != sizeof(his) || his != sum)
			die("the server has other bytes");
		close(s);
		return 0;
	}
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 1))
		die("listen");
	c = accept(s, NULL, NULL);
	if (c < 0)
		die("accept");
	while ((n = recv(c, buf, sizeof(buf), 0)) > 0) {
		all(write, 1, buf, n);
		sum += n;
	}
	if (n < 0 || send(c, &sum, sizeof(sum), 0) != sizeof(sum))
		die("recv");
	shutdown(c, SHUT_WR);
	close(c);
	close(s);
	return 0;
}
