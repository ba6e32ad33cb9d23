/// Where Keel keeps what can be made or had again.
public enum UserCache {
  /// `$XDG_CACHE_HOME/keel/<name>`, else `~/.cache/keel/<name>`; nil where there is no `HOME` either. A relative path in
  /// `XDG_CACHE_HOME` is ignored, as the XDG specification asks.
  public static func folder(_ name: String, _ environment: [String: String]) -> String? {
    if let cache = environment["XDG_CACHE_HOME"], cache.hasPrefix("/") { return "\(cache)/keel/\(name)" }
    return environment["HOME"].flatMap { $0.isEmpty ? nil : "\($0)/.cache/keel/\(name)" }
  }
}
