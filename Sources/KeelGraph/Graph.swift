import KeelCore

/// One result of one node.
public struct Value: Hashable, Sendable {
  public var node: Int
  public var output: Int

  public init(node: Int, output: Int = 0) {
    self.node = node
    self.output = output
  }
}

/// An operation applied to values; its results have the types beside it.
public struct Node: Hashable, Sendable {
  public var operation: Operation
  public var inputs: [Value]
  public var types: [TensorType]
  /// Property path of the layer that the node comes from.
  public var path: String
}

/// At the end of a run the variable takes the value.
public struct Update: Hashable, Sendable {
  /// The `.input` node that reads the variable.
  public var variable: Value
  public var value: Value
}

/// A computation in static single assignment: nodes stand in an order in which they can be run.
public struct Graph: Hashable, Sendable {
  public struct Output: Hashable, Sendable {
    public var name: String
    public var value: Value

    public init(name: String, value: Value) {
      self.name = name
      self.value = value
    }
  }

  public var name: String
  public var nodes: [Node] = []
  public var outputs: [Output] = []
  public var updates: [Update] = []

  public init(name: String) { self.name = name }

  public func type(of value: Value) -> TensorType { nodes[value.node].types[value.output] }

  /// The `.input` nodes in order.
  public var inputs: [(value: Value, input: Input, type: TensorType)] {
    nodes.indices.compactMap { index in
      guard case .input(let input) = nodes[index].operation else { return nil }
      return (Value(node: index), input, nodes[index].types[0])
    }
  }

  /// For each value the nodes that read it, in order; a node that reads it twice stands there twice.
  public func readers() -> [Value: [Int]] {
    var readers: [Value: [Int]] = [:]
    for (index, node) in nodes.enumerated() {
      for input in node.inputs { readers[input, default: []].append(index) }
    }
    return readers
  }

  /// Values that someone outside the nodes reads: outputs and updates.
  public var results: Set<Value> { Set(outputs.map(\.value)).union(updates.map(\.value)) }

  /// Checks the invariants that every pass keeps: operands are defined before their use, types are what the
  /// operations' rules give, outputs and updates name values that there are, and a variable gets one new value, of
  /// its own type.
  public func verified() throws(GraphError) -> Graph {
    for (index, node) in nodes.enumerated() {
      for input in node.inputs {
        guard input.node < index, has(input) else {
          throw GraphError(
            node.operation.rules.name, path: node.path, "%\(index) reads %\(input.node) before it is defined")
        }
      }
      try verifyTypes(index, node)
    }
    var names: Set<String> = []
    for output in outputs {
      guard has(output.value) else {
        throw GraphError("output", "\(output.name) is %\(output.value.node), which is not defined")
      }
      guard names.insert(output.name).inserted else { throw GraphError("output", "\(output.name) stands there twice") }
    }
    try verifyUpdates()
    return self
  }

  private func has(_ value: Value) -> Bool {
    nodes.indices.contains(value.node) && nodes[value.node].types.indices.contains(value.output)
  }

  private func verifyTypes(_ index: Int, _ node: Node) throws(GraphError) {
    let name = node.operation.rules.name
    let types: [TensorType]
    do { types = try node.operation.rules.checkedTypes(node.inputs.map { type(of: $0) }) } catch {
      throw GraphError(error.operation, path: node.path, error.message)
    }
    guard types == node.types else {
      throw GraphError(name, path: node.path, "%\(index) expects types \(types), has \(node.types)")
    }
  }

  private func verifyUpdates() throws(GraphError) {
    var updated: Set<Value> = []
    for update in updates {
      guard has(update.variable), case .input(let input) = nodes[update.variable.node].operation else {
        throw GraphError("update", "%\(update.variable.node) expects a variable")
      }
      guard has(update.value) else {
        throw GraphError("update", "\(input.name) takes %\(update.value.node), which is not defined")
      }
      guard type(of: update.variable) == type(of: update.value) else {
        throw GraphError("update", "\(input.name) expects \(type(of: update.variable)), got \(type(of: update.value))")
      }
      guard updated.insert(update.variable).inserted else {
        throw GraphError("update", "\(input.name) expects one new value, got two")
      }
    }
  }
}
