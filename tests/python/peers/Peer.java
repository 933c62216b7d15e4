/*
 * Peer.java PORT VERSION CA [CERTIFICATE]: a TLS client that is a pipe, with Java's JSSE.
 * stdin goes to web.localhost, what comes from there to stdout.  Version and ALPN go to stderr.
 */
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;

public class Peer {
    static Certificate certificate(String path) throws Exception {
        try (InputStream in = Files.newInputStream(Path.of(path))) {
            return CertificateFactory.getInstance("X.509").generateCertificate(in);
        }
    }

    static PrivateKey key(String path) throws Exception {
        String pem = Files.readString(Path.of(path));
        String begin = "-----BEGIN PRIVATE KEY-----";
        int from = pem.indexOf(begin) + begin.length();
        String base64 = pem.substring(from, pem.indexOf("-----END PRIVATE KEY-----"));
        byte[] der = Base64.getMimeDecoder().decode(base64);
        return KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(der));
    }

    static KeyStore emptyStore() throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        return store;
    }

    static SSLContext context(String ca, String own) throws Exception {
        KeyStore trusted = emptyStore(), keys = emptyStore();
        trusted.setCertificateEntry("ca", certificate(ca));
        if (own != null) {
            keys.setKeyEntry("own", key(own), new char[0], new Certificate[] {certificate(own)});
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(trusted);
        KeyManagerFactory manage = KeyManagerFactory.getInstance("PKIX");
        manage.init(keys, new char[0]);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(manage.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    static void send(SSLSocket socket) {
        try {
            System.in.transferTo(socket.getOutputStream());
            socket.shutdownOutput();
        } catch (IOException e) {
            // whoever reads hears of it too
        }
    }

    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        SSLContext context = context(arguments[2], arguments.length > 3 ? arguments[3] : null);
        SSLSocketFactory factory = context.getSocketFactory();
        Socket tcp = new Socket(InetAddress.getLoopbackAddress(), port);
        try (SSLSocket socket =
                (SSLSocket) factory.createSocket(tcp, "web.localhost", port, true)) {
            SSLParameters parameters = socket.getSSLParameters();
            parameters.setEndpointIdentificationAlgorithm("HTTPS");
            parameters.setProtocols(new String[] {"TLSv" + arguments[1]});
            parameters.setApplicationProtocols(new String[] {"other/1", "echo/1"});
            socket.setSSLParameters(parameters);
            socket.startHandshake();
            System.err.println(
                    socket.getSession().getProtocol() + " " + socket.getApplicationProtocol());
            Thread sender = new Thread(() -> send(socket));
            sender.setDaemon(true);
            sender.start();
            socket.getInputStream().transferTo(System.out);
            System.out.flush();
        }
    }
}
