/// A graph that cannot be: which operation, in which layer, what it expected and what came.
public struct GraphError: Error, Hashable, Sendable, CustomStringConvertible {
  public var operation: String
  /// Property path of the layer that asked for the operation, empty outside of any layer.
  public var path: String
  public var message: String

  public init(_ operation: String, path: String = "", _ message: String) {
    self.operation = operation
    self.path = path
    self.message = message
  }

  public var description: String { "[\(operation)] " + (path.isEmpty ? "" : "\(path): ") + message }
}
