import KeelCore
import KeelGraph
import Testing

/// Runs a plan with marks in the place of numbers: each node writes the mark of its results into their words of four
/// bytes, and must find in its operands' words the marks of those who wrote them.
private struct PlanSimulation {
  let graph: Graph
  let plan: MemoryPlan
  let guardBytes: Int
  private var words: [String: [Int]] = [:]
  private(set) var faults: [String] = []

  init(_ graph: Graph, _ plan: MemoryPlan, guardBytes: Int, gradientBytes: Int) {
    (self.graph, self.plan, self.guardBytes) = (graph, plan, guardBytes)
    var spaces = [
      "constants": plan.constantByteCount, "activations": plan.activationByteCount, "gradients": gradientBytes,
    ]
    for (_, input, type) in graph.inputs { spaces["variable " + input.label] = type.byteCount + guardBytes }
    words = spaces.mapValues { Array(repeating: -1, count: $0 / 4) }
  }

  private func mark(_ value: Value) -> Int { 2 * (256 * value.node + value.output) }
  private func guardMark(_ value: Value) -> Int { mark(value) + 1 }

  /// Who wrote what a reshape shows.
  private func origin(_ value: Value) -> Value {
    graph.nodes[value.node].operation.rules.name == "reshape" ? origin(graph.nodes[value.node].inputs[0]) : value
  }

  private func place(_ value: Value) -> (space: String, offset: Int)? {
    switch plan.locations[value] {
    case .variable(let name): ("variable " + name, 0)
    case .constant(let offset): ("constants", offset)
    case .gradient(let offset): ("gradients", offset)
    case .activation(let offset): ("activations", offset)
    case nil: nil
    }
  }

  private mutating func fill(_ space: String, _ start: Int, _ byteCount: Int, _ mark: Int) {
    guard let count = words[space]?.count, (start + byteCount) / 4 <= count, start % 4 == 0, byteCount % 4 == 0 else {
      return faults.append("\(start)+\(byteCount) does not lie in \(space)")
    }
    for word in start / 4..<(start + byteCount) / 4 { words[space]?[word] = mark }
  }

  mutating func write(_ value: Value) {
    guard let (space, offset) = place(value) else { return faults.append("\(value) has no place") }
    let byteCount = graph.type(of: value).byteCount
    fill(space, offset, byteCount, mark(value))
    fill(space, offset + byteCount, guardBytes, guardMark(value))
  }

  mutating func read(_ value: Value, _ reader: String) {
    let source = origin(value)
    guard let (space, offset) = place(value), let held = words[space] else {
      return faults.append("\(value) has no place")
    }
    let (start, end) = (offset / 4, (offset + graph.type(of: value).byteCount) / 4)
    if held[start..<end].contains(where: { $0 != mark(source) }) { faults.append("\(reader) does not find \(source)") }
    if held[end..<end + guardBytes / 4].contains(where: { $0 != guardMark(source) }) {
      faults.append("\(reader) finds the guard of \(source) broken")
    }
  }

  mutating func run(workspaceBytes: [Int: Int]) {
    for index in graph.nodes.indices where isGiven(index) { write(Value(node: index)) }
    for (index, node) in graph.nodes.enumerated() {
      let name = "%\(index) \(node.operation.rules.name)"
      for input in node.inputs { read(input, name) }
      if node.operation.rules.name == "reshape" || isGiven(index) { continue }
      if let count = workspaceBytes[index], count > 0 {
        guard let offset = plan.workspaces[index] else {
          faults.append("\(name) has no workspace")
          continue
        }
        fill("activations", offset, count + guardBytes, -2 - index)
      }
      for output in node.types.indices { write(Value(node: index, output: output)) }
      // While a kernel runs nothing of it may overlap, but what it overwrites in place.
      for output in node.types.indices { read(Value(node: index, output: output), name + " at its end") }
      let overwritten = node.operation.rules.inPlace.filter {
        plan.locations[Value(node: index, output: $0.output)] == plan.locations[node.inputs[$0.operand]]
      }.map { node.inputs[$0.operand] }
      for input in node.inputs where !overwritten.contains(input) { read(input, name + " at its end") }
    }
    for update in graph.updates { finish(update) }
    for output in graph.outputs { read(output.value, "output \(output.name)") }
  }

  private mutating func finish(_ update: Update) {
    guard case .variable(let name) = plan.locations[update.variable] else {
      return faults.append("update of no variable")
    }
    read(update.value, "update of \(name)")
    let inPlace = plan.locations[update.value] == .variable(name)
    let copied = plan.copies.contains { $0.variable == name && $0.value == update.value }
    if inPlace == copied { faults.append("\(name) gets its new value \(inPlace ? "twice" : "from nobody")") }
  }

  /// Whether the node's value is there before the run.
  private func isGiven(_ index: Int) -> Bool {
    switch graph.nodes[index].operation {
    case .constant, .input: true
    default: false
    }
  }
}

/// Records what a simulated run of `plan` finds wrong, and places that are not aligned.
func expectSound(
  _ graph: Graph, _ plan: MemoryPlan, alignment: Int = 1, guardBytes: Int = 0, workspaceBytes: [Int: Int] = [:],
  layout: ArenaLayout? = nil, sourceLocation: SourceLocation = #_sourceLocation
) {
  var simulation = PlanSimulation(graph, plan, guardBytes: guardBytes, gradientBytes: layout?.byteCount ?? 0)
  simulation.run(workspaceBytes: workspaceBytes)
  #expect(simulation.faults.isEmpty, "\(graph.name): \(simulation.faults.prefix(3))", sourceLocation: sourceLocation)
  let offsets = plan.locations.values.compactMap { location -> Int? in
    switch location {
    case .constant(let offset), .gradient(let offset), .activation(let offset): offset
    case .variable: nil
    }
  }
  #expect(
    (offsets + plan.workspaces.values).allSatisfy { $0 % alignment == 0 }, "\(graph.name)",
    sourceLocation: sourceLocation)
}
