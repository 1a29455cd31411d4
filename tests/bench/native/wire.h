/* What both programs do with a Unix stream socket: blocking calls, as most VMMs make them. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Bytes of a file. */
struct bytes {
  char *at;
  size_t length;
};

static inline void fail(const char *what) {
  perror(what);
  exit(1);
}

static inline struct bytes file_in(const char *folder, const char *name) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  if (file == NULL) fail(path);
  fseek(file, 0, SEEK_END);
  struct bytes all = {NULL, ftell(file)};
  all.at = malloc(all.length + 1);
  rewind(file);
  if (fread(all.at, 1, all.length, file) != all.length) fail(path);
  fclose(file);
  return all;
}

static inline int unix_socket(const char *path, struct sockaddr_un *name) {
  memset(name, 0, sizeof *name);
  name->sun_family = AF_UNIX;
  strncpy(name->sun_path, path, sizeof name->sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  return fd;
}

/* Reads exactly so many bytes. Returns 0 at the end of the stream. */
static inline int read_all(int fd, char *into, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t count = read(fd, into + done, length - done);
    if (count < 0) fail("read");
    if (count == 0) return 0;
    done += count;
  }
  return 1;
}

static inline void write_all(int fd, const char *from, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t count = write(fd, from + done, length - done);
    if (count < 0) fail("write");
    done += count;
  }
}
