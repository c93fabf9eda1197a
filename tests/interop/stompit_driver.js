// Sends three messages to a queue with stompit, consumes and acknowledges them, and prints what came.
'use strict';

const [place, port] = process.argv.slice(2);
const stompit = require(require.resolve('stompit', { paths: [place] }));

const fail = (error) => { console.error(error); process.exit(1); };
setTimeout(() => fail('nothing came for 20 s'), 20000).unref();

stompit.connect({ host: '127.0.0.1', port: Number(port), connectHeaders: { host: '/', 'heart-beat': '5000,5000' } },
  (error, client) => {
    if (error) fail(error);
    const bodies = ['one', 't\0o', 'three'];
    const send = (index) => {
      if (index === bodies.length) return consume();
      const frame = client.send(
        { destination: '/queue/stompit', colour: 'a:b\n', 'content-length': Buffer.byteLength(bodies[index]) },
        { onReceipt: () => send(index + 1) });
      frame.end(bodies[index]);
    };
    const consume = () => {
      const received = [];
      client.subscribe({ destination: '/queue/stompit', ack: 'client-individual' }, (failed, message) => {
        if (failed) fail(failed);
        message.readString('utf-8', (unread, body) => {
          if (unread) fail(unread);
          received.push(body);
          client.ack(message);
          if (received.length === bodies.length) {
            const colour = message.headers.colour;
            client.disconnect((late) => {
              if (late) fail(late);
              console.log(JSON.stringify({ received, colour }));
            });
          }
        });
      });
    };
    send(0);
  });
