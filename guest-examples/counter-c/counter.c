// A web server in plain C on WASI 0.1: counts visits in a file, so that the count outlives the
// program.
//
// WASI 0.1 cannot make sockets. wasmorch hands it one listening socket per declared container port,
// already listening, and names its descriptor in WASMORCH_LISTEN_FD_<port>.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned long next_count(const char *path) {
  unsigned long count = 0;
  FILE *file = fopen(path, "r");
  if (file) {
    if (fscanf(file, "%lu", &count) != 1) count = 0;
    fclose(file);
  }
  count++;
  file = fopen(path, "w");
  if (!file) {
    perror(path);
    exit(1);
  }
  fprintf(file, "%lu\n", count);
  fclose(file);
  return count;
}

// The head of a request, as far as it matters here: up to the empty line.
static int read_head(int fd, char *head, size_t size) {
  size_t length = 0;
  while (length + 1 < size) {
    ssize_t got = recv(fd, head + length, size - 1 - length, 0);
    if (got <= 0) return 0;
    length += got;
    head[length] = 0;
    if (strstr(head, "\r\n\r\n")) return 1;
  }
  return 0;
}

int main(void) {
  const char *path = getenv("COUNTER") ? getenv("COUNTER") : "/data/count";
  const char *listener = getenv("WASMORCH_LISTEN_FD_8080");
  if (!listener) {
    fputs("declare containerPort 8080\n", stderr);
    return 1;
  }
  printf("counting in %s\n", path);
  fflush(stdout);
  for (;;) {
    int fd = accept(atoi(listener), NULL, NULL);
    if (fd < 0) {
      perror("accept");
      return 1;
    }
    char head[4096], body[64], answer[256];
    if (read_head(fd, head, sizeof head)) {
      int length = snprintf(body, sizeof body, "visit %lu\n", next_count(path));
      length = snprintf(answer, sizeof answer,
                        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
                        "content-length: %d\r\nconnection: close\r\n\r\n%s",
                        length, body);
      send(fd, answer, length, 0);
    }
    shutdown(fd, SHUT_RDWR);
    close(fd);
  }
}
