// Server.java: a node of OpenSearch with HTTP, for opensearch.lua. What Maven has of it are jars,
// not the packaged server, so this starts what that starts.
// SPDX-License-Identifier: MIT
//
//    Server FOLDER HTTP-PORT TRANSPORT-PORT

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

public final class Server extends Node {
  private Server(Environment environment) {
    super(environment, List.of(Netty4Plugin.class), false);
  }

  public static void main(String[] arguments) throws Exception {
    Settings settings = Settings.builder()
        .put("path.home", arguments[0])
        .put("http.port", arguments[1])
        .put("transport.port", arguments[2])
        .put("network.host", "127.0.0.1")
        .put("discovery.type", "single-node")
        .put("transport.type", "netty4")
        .put("http.type", "netty4")
        .put("cluster.routing.allocation.disk.threshold_enabled", false)
        .build();
    Environment environment = InternalSettingsPreparer.prepareEnvironment(settings, Map.of(),
        Path.of(arguments[0], "config"), () -> "node");
    new Server(environment).start();
    Thread.currentThread().join();
  }
}
