/*
 * The floor: a server that does nothing but answer. It reads as many bytes as the device's client sends, and sends as
 * many as the device answers: the very same ones, so that the client cannot tell the two apart.
 *
 *   echo PATH FOLDER      FOLDER holds the files of a conversation (conversation.ts)
 */

#include "wire.h"

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  struct bytes hello = file_in(argv[2], "hello"), hello_answer = file_in(argv[2], "hello.answer");
  struct bytes ask = file_in(argv[2], "ask"), ask_answer = file_in(argv[2], "ask.answer");
  struct sockaddr_un name;
  int listener = unix_socket(argv[1], &name);
  if (bind(listener, (struct sockaddr *)&name, sizeof name) < 0) fail("bind");
  if (listen(listener, 1) < 0) fail("listen");
  puts("listening");
  fflush(stdout);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) fail("accept");
    if (read_all(fd, hello.at, hello.length)) write_all(fd, hello_answer.at, hello_answer.length);
    while (read_all(fd, ask.at, ask.length)) write_all(fd, ask_answer.at, ask_answer.length);
    close(fd);
  }
}
