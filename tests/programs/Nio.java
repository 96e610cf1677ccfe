import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.TreeMap;

/** An echo server and its client, each one thread around a selector. */
public class Nio {
    static final int CONNECTIONS = 4;
    static final int LENGTH = 2_000_000;

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("serve")) {
            serve();
        } else {
            ask(new InetSocketAddress(arguments[0], 8000));
        }
    }

    static void serve() throws Exception {
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open();
        listener.bind(new InetSocketAddress(8000)).configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        while (true) {
            selector.select();
            for (SelectionKey key : selector.selectedKeys()) {
                if (key.isAcceptable()) {
                    SocketChannel channel = listener.accept();
                    channel.configureBlocking(false);
                    String from = ((InetSocketAddress) channel.getRemoteAddress()).getAddress().getHostAddress();
                    ByteBuffer buffer = ByteBuffer.allocate(65536).put((from + "\n").getBytes());
                    channel.register(selector, SelectionKey.OP_READ, buffer);
                } else {
                    echo(key);
                }
            }
            selector.selectedKeys().clear();
        }
    }

    /** What was read waits in the buffer until it can be written. */
    static void echo(SelectionKey key) throws Exception {
        SocketChannel channel = (SocketChannel) key.channel();
        ByteBuffer buffer = (ByteBuffer) key.attachment();
        boolean ended = buffer.hasRemaining() && channel.read(buffer) < 0;
        buffer.flip();
        channel.write(buffer);
        buffer.compact();
        if (ended && buffer.position() == 0) {
            channel.close();
            return;
        }
        int interest = buffer.position() > 0 ? SelectionKey.OP_WRITE : 0;
        key.interestOps(interest | (buffer.hasRemaining() && !ended ? SelectionKey.OP_READ : 0));
    }

    /** One connection of the client's. */
    static class Talk {
        final int number;
        final MessageDigest hash = MessageDigest.getInstance("SHA-256");
        final ByteBuffer out = ByteBuffer.allocate(LENGTH);
        long received;

        Talk(int number) throws Exception {
            this.number = number;
            for (int i = 0; i < LENGTH; i++) {
                out.put((byte) (i * 31 + number));
            }
            out.flip();
        }
    }

    static void ask(InetSocketAddress server) throws Exception {
        Selector selector = Selector.open();
        for (int number = 0; number < CONNECTIONS; number++) {
            SocketChannel channel = SocketChannel.open();
            channel.configureBlocking(false);
            channel.register(selector, SelectionKey.OP_CONNECT, new Talk(number));
            channel.connect(server);
        }
        TreeMap<Integer, String> said = new TreeMap<>();
        ByteBuffer in = ByteBuffer.allocate(65536);
        while (said.size() < CONNECTIONS) {
            selector.select();
            for (SelectionKey key : selector.selectedKeys()) {
                SocketChannel channel = (SocketChannel) key.channel();
                Talk talk = (Talk) key.attachment();
                if (key.isConnectable() && channel.finishConnect()) {
                    key.interestOps(SelectionKey.OP_READ | SelectionKey.OP_WRITE);
                } else if (key.isWritable() && channel.write(talk.out) >= 0 && !talk.out.hasRemaining()) {
                    channel.shutdownOutput();
                    key.interestOps(SelectionKey.OP_READ);
                }
                if (key.isValid() && key.isReadable() && read(channel, talk, in) < 0) {
                    String digest = HexFormat.of().formatHex(talk.hash.digest());
                    said.put(talk.number, talk.received + " " + digest + " " + channel.getRemoteAddress());
                    channel.close();
                }
            }
            selector.selectedKeys().clear();
        }
        said.forEach((number, line) -> System.out.println(number + " " + line));
    }

    static int read(SocketChannel channel, Talk talk, ByteBuffer in) throws Exception {
        in.clear();
        int count = channel.read(in);
        if (count > 0) {
            talk.received += count;
            talk.hash.update(in.flip());
        }
        return count;
    }
}
