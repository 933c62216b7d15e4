// peer.js PORT VERSION CA [CERTIFICATE]: a TLS client that is a pipe, with Node's tls.
// stdin goes to web.localhost, what comes from there to stdout.  Version and ALPN go to stderr.
'use strict';
const fs = require('fs');
const tls = require('tls');

const [port, version, ca, certificate] = process.argv.slice(2);
const pem = certificate ? fs.readFileSync(certificate) : undefined;
const socket = tls.connect({
    host: '127.0.0.1', port: Number(port), servername: 'web.localhost', ca: fs.readFileSync(ca),
    cert: pem, key: pem, ALPNProtocols: ['other/1', 'echo/1'],
    minVersion: 'TLSv' + version, maxVersion: 'TLSv' + version,
}, () => {
    console.error(socket.authorized, socket.getProtocol(), socket.alpnProtocol);
    process.stdin.pipe(socket);
});
socket.pipe(process.stdout);
socket.on('error', (error) => {
    console.error(String(error));
    process.exitCode = 1;
});
socket.on('close', () => process.stdin.destroy());
