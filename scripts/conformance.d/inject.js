// `node inject.js HOST:PORT` adds the token in $TOKEN to each request on its way to the edge, because the suite sends
// no token. All other bytes pass unchanged and at once, in both directions: Host and Origin, unusual header values,
// streams, and connections that end early. It prints its listening address, and ends when its standard input ends.
import { createServer, connect } from 'node:net';
import { Transform } from 'node:stream';

const MAX_HEAD = 64 * 1024;
const END_OF_HEAD = '\r\n\r\n';

/** Puts a header field after the request line of each HTTP/1.1 request. */
class Injector extends Transform {
  constructor(field) {
    super();
    this.field = field;
    this.head = Buffer.alloc(0);
    this.body = 0;
  }

  _transform(chunk, _encoding, done) {
    while (chunk.length > 0) {
      if (this.body > 0) {
        const part = chunk.subarray(0, this.body);
        this.push(part);
        this.body -= part.length;
        chunk = chunk.subarray(part.length);
        continue;
      }
      const seen = Buffer.concat([this.head, chunk]);
      const end = seen.indexOf(END_OF_HEAD);
      if (end < 0) {
        this.head = seen;
        return done(seen.length > MAX_HEAD ? new Error('a request head without an end') : null);
      }
      const head = seen.subarray(0, end + END_OF_HEAD.length).toString('latin1');
      // The end of a chunked body can only be found with a parser. The suite sends no such body so far.
      if (/^transfer-encoding:/im.test(head)) return done(new Error('a request with a chunked body'));
      this.push(Buffer.from(head.replace('\r\n', `\r\n${this.field}\r\n`), 'latin1'));
      this.head = Buffer.alloc(0);
      this.body = Number(/^content-length:\s*(\d+)/im.exec(head)?.[1] ?? 0);
      chunk = seen.subarray(end + END_OF_HEAD.length);
    }
    done();
  }
}

const [host, port] = process.argv[2].split(':');
const field = `Authorization: Bearer ${process.env.TOKEN}`;

// Half-open connections: one direction may end before the other, as it may without this proxy.
const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
  const edge = connect({ host, port: Number(port), allowHalfOpen: true, noDelay: true });
  const injector = new Injector(field);
  const hangUp = () => [client, injector, edge].forEach((stream) => stream.destroy());
  for (const stream of [client, edge]) stream.on('error', hangUp).on('close', hangUp);
  injector.on('error', (error) => {
    console.error(`inject: ${error.message}`);
    hangUp();
  });
  client.pipe(injector).pipe(edge);
  edge.pipe(client);
});
server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
process.stdin.on('end', () => process.exit()).resume();
