import KeelCore

/// Builds a graph from another one, node by node; keeps where each old value went.
struct GraphRewriter {
  private(set) var result: Graph
  private var moved: [Value: Value] = [:]

  init(_ source: Graph) {
    result = Graph(name: source.name)
  }

  func type(of value: Value) -> TensorType { result.type(of: value) }
  func node(of value: Value) -> Node { result.nodes[value.node] }

  /// The number behind a value that is one constant in all its elements.
  func splat(_ value: Value) -> Double? {
    guard case .constant(let constant) = result.nodes[value.node].operation else { return nil }
    return constant.splat
  }

  /// Appends a node to the new graph.
  mutating func append(_ operation: Operation, _ inputs: [Value], path: String) throws(GraphError) -> [Value] {
    let types = try operation.rules.outputTypes(inputs.map { result.type(of: $0) })
    result.nodes.append(Node(operation: operation, inputs: inputs, types: types, path: path))
    return types.indices.map { Value(node: result.nodes.count - 1, output: $0) }
  }

  /// Appends the definition of an operation in its place; nil for a primitive.
  mutating func appendDefinition(of node: Node, _ inputs: [Value]) throws(GraphError) -> [Value]? {
    let builder = GraphBuilder(name: node.operation.rules.name, dtype: node.types.first?.dtype ?? .float32)
    let placeholders = inputs.enumerated().map { builder.input("\($0.offset)", type(of: $0.element)) }
    guard let outputs = builder.scope(at: node.path, { node.operation.rules.definition(placeholders) }) else {
      return nil
    }
    var spliced: [Value: Value] = [:]
    for (placeholder, input) in zip(placeholders, inputs) { spliced[placeholder.value] = input }
    for (index, inner) in try builder.graph().nodes.enumerated() where spliced[Value(node: index)] == nil {
      let operands = inner.inputs.compactMap { spliced[$0] }
      // A definition may use operations that have one themselves.
      var values = try appendDefinition(of: inner, operands)
      if values == nil { values = try append(inner.operation, operands, path: inner.path) }
      for (output, value) in (values ?? []).enumerated() { spliced[Value(node: index, output: output)] = value }
    }
    return outputs.compactMap { spliced[$0.value] }
  }

  /// Copies `source` through `rule`, which gives the values that stand for a node's results, or nil to keep the node.
  static func rewrite(
    _ source: Graph, _ rule: (inout GraphRewriter, Node, [Value]) throws(GraphError) -> [Value]?
  ) throws(GraphError) -> Graph {
    var rewriter = GraphRewriter(source)
    for (index, node) in source.nodes.enumerated() {
      let inputs = node.inputs.compactMap { rewriter.moved[$0] }
      var values = try rule(&rewriter, node, inputs)
      if values == nil { values = try rewriter.append(node.operation, inputs, path: node.path) }
      for (output, value) in (values ?? []).enumerated() { rewriter.moved[Value(node: index, output: output)] = value }
    }
    return rewriter.finished(source)
  }

  private func finished(_ source: Graph) -> Graph {
    var graph = result
    graph.outputs = source.outputs.compactMap { output in
      moved[output.value].map { Graph.Output(name: output.name, value: $0) }
    }
    graph.updates = source.updates.compactMap { update in
      guard let variable = moved[update.variable], let value = moved[update.value] else { return nil }
      return Update(variable: variable, value: value)
    }
    return graph
  }
}

extension Graph {
  /// The same nodes in an order in which operands precede their readers, as close to the present one as that allows.
  func sorted() -> Graph {
    var order: [Int] = []
    var placed = [Bool](repeating: false, count: nodes.count)
    func place(_ index: Int) {
      guard !placed[index] else { return }
      placed[index] = true
      for input in nodes[index].inputs { place(input.node) }
      order.append(index)
    }
    for index in nodes.indices { place(index) }
    return selecting(order)
  }

  /// The graph of the nodes `order`, which must hold whatever they read.
  func selecting(_ order: [Int]) -> Graph {
    var position = [Int](repeating: -1, count: nodes.count)
    for (new, old) in order.enumerated() { position[old] = new }
    func renamed(_ value: Value) -> Value { Value(node: position[value.node], output: value.output) }
    var graph = self
    graph.nodes = order.map { index in
      var node = nodes[index]
      node.inputs = node.inputs.map(renamed)
      return node
    }
    graph.outputs = outputs.map { Output(name: $0.name, value: renamed($0.value)) }
    graph.updates = updates.map { Update(variable: renamed($0.variable), value: renamed($0.value)) }
    return graph
  }

  /// Whether `node` reads, directly or not, a result of `other`, or is it.
  func depends(_ node: Int, on other: Int) -> Bool {
    var seen: Set<Int> = []
    var pending = [node]
    while let next = pending.popLast() {
      if next == other { return true }
      guard seen.insert(next).inserted else { continue }
      pending += nodes[next].inputs.map(\.node)
    }
    return false
  }

  /// Whoever of `nodes`, or outside the nodes, reads one of the values reads the other in its place.
  mutating func replace(_ values: [Value: Value], in nodes: Range<Int>) {
    for index in nodes { self.nodes[index].inputs = self.nodes[index].inputs.map { values[$0] ?? $0 } }
    outputs = outputs.map { Output(name: $0.name, value: values[$0.value] ?? $0.value) }
    updates = updates.map { Update(variable: $0.variable, value: values[$0.value] ?? $0.value) }
  }
}
