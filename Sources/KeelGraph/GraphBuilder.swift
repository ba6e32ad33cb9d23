import KeelCore

/// Whether a layer is being trained or used; batch norm reads it from the tensor it is called on.
public enum Mode: String, Sendable {
  case training
  case evaluation
}

/// Collects nodes while layers are called on symbolic tensors.
///
/// Building never throws: the first error is kept with the path of its layer, what follows is ignored, and `graph()`
/// throws it.
public final class GraphBuilder {
  public let mode: Mode
  /// Element type of parameters and activations.
  public let dtype: DType
  public private(set) var error: GraphError?
  private(set) var nodes: [Node] = []
  private var outputs: [Graph.Output] = []
  private var updates: [Update] = []
  private var variables: [String: Tensor] = [:]
  private var scopes: [String] = []
  private let name: String

  public init(name: String = "graph", mode: Mode = .evaluation, dtype: DType = .float32) {
    self.name = name
    self.mode = mode
    self.dtype = dtype
  }

  /// Property path of the layer being called.
  public var path: String { scopes.joined(separator: ".") }

  /// Runs `body` with `component` appended to the path.
  public func scope<Result>(_ component: String, _ body: () throws -> Result) rethrows -> Result {
    scopes.append(component)
    defer { scopes.removeLast() }
    return try body()
  }

  /// Runs `body` as inside of the layer at the absolute `path`.
  public func scope<Result>(at path: String, _ body: () throws -> Result) rethrows -> Result {
    let outer = scopes
    scopes = path.isEmpty ? [] : [path]
    defer { scopes = outer }
    return try body()
  }

  /// The variable or datum `name`; the same tensor every time.
  public func input(_ name: String, _ type: TensorType, role: Role = .data) -> Tensor {
    if let known = variables[name] {
      if known.type != type {
        record(GraphError("input", path: path, "\(name) is \(known.type), asked for as \(type)"))
      }
      return known
    }
    let tensor = append(.input(Input(name: name, role: role, type: type)), [])[0]
    variables[name] = tensor
    return tensor
  }

  public func constant(_ value: Double, _ shape: Shape = .scalar, _ dtype: DType? = nil) -> Tensor {
    append(.constant(Constant(type: TensorType(shape, dtype ?? self.dtype), values: [value])), [])[0]
  }

  public func constant(_ values: [Double], _ shape: Shape, _ dtype: DType? = nil) -> Tensor {
    append(.constant(Constant(type: TensorType(shape, dtype ?? self.dtype), values: values)), [])[0]
  }

  /// Makes `tensor` a result of the graph.
  public func output(_ name: String, _ tensor: Tensor) {
    guard ownsAll([tensor], "output", "\(name) ") else { return }
    outputs.append(Graph.Output(name: name, value: tensor.value))
  }

  /// At the end of a run `variable` takes the value of `tensor`.
  public func update(_ variable: Tensor, with tensor: Tensor) {
    guard ownsAll([variable, tensor], "update") else { return }
    updates.append(Update(variable: variable.value, value: tensor.value))
  }

  /// Makes all updates so far depend on a scalar: where it is not finite, at the end of a run each variable has the
  /// value that it had before. Variables of integers take theirs all the same.
  public func guardUpdates(by scalar: Tensor) {
    guard ownsAll([scalar], "guardUpdates"), error == nil else { return }
    var guarded: [Int: [Tensor]] = [:]
    var isFinite: Tensor?
    updates = updates.map { update in
      let (variable, value) = (tensor(update.variable), tensor(update.value))
      let node = nodes[update.value.node]
      if let operation = node.operation.guarded {
        let results =
          guarded[update.value.node]
          ?? scope(at: node.path) { append(operation, node.inputs.map { tensor($0) } + [scalar]) }
        guarded[update.value.node] = results
        return Update(variable: update.variable, value: results[update.value.output].value)
      }
      guard value.dtype.isFloatingPoint else { return update }
      // x − x is 0 for a finite x, else NaN.
      let known = isFinite ?? (scalar - scalar).elementwise(.equal, 0.0)
      isFinite = known
      return Update(
        variable: update.variable, value: known.cast(to: value.dtype).elementwise(.select, value, variable).value)
    }
  }

  /// Keeps the first error of the trace.
  public func record(_ error: GraphError) {
    if self.error == nil { self.error = error }
  }

  /// Appends an operation and gives its results. After an error the results are placeholders
  /// of the first operand's type, so that a layer that looks at their shape goes on.
  public func append(_ operation: Operation, _ inputs: [Tensor]) -> [Tensor] {
    let rules = operation.rules
    if error == nil {
      if ownsAll(inputs, rules.name, "operand ") {
        do throws(GraphError) {
          let types = try rules.checkedTypes(inputs.map(\.type))
          nodes.append(Node(operation: operation, inputs: inputs.map(\.value), types: types, path: path))
          return results(of: nodes.count - 1)
        } catch {
          record(GraphError(error.operation, path: path, error.message))
        }
      }
    }
    return (0..<rules.outputCount).map {
      Tensor(builder: self, value: Value(node: -1, output: $0), type: inputs.first?.type ?? TensorType(.scalar, dtype))
    }
  }

  /// Whether all `tensors` are of this graph; records the first that is not.
  func ownsAll(_ tensors: [Tensor], _ operation: String, _ what: String = "") -> Bool {
    guard let stranger = tensors.first(where: { $0.builder !== self }) else { return true }
    record(GraphError(operation, path: path, "\(what)\(stranger.type) belongs to another graph"))
    return false
  }

  func results(of node: Int) -> [Tensor] {
    nodes[node].types.enumerated().map {
      Tensor(builder: self, value: Value(node: node, output: $0.offset), type: $0.element)
    }
  }

  /// A tensor for a value of this builder.
  func tensor(_ value: Value) -> Tensor {
    Tensor(builder: self, value: value, type: nodes[value.node].types[value.output])
  }

  /// The graph so far. Throws the first error of the trace.
  public func graph() throws(GraphError) -> Graph {
    if let error { throw error }
    var graph = Graph(name: name)
    graph.nodes = nodes
    graph.outputs = outputs
    graph.updates = updates
    return try graph.verified()
  }
}
