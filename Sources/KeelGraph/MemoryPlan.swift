import KeelCore

/// Named tensors side by side in one buffer, each at a multiple of the alignment.
public struct ArenaLayout: Hashable, Sendable {
  public private(set) var offsets: [String: Int] = [:]
  /// Size of the buffer; never 0, because OpenCL has no empty buffers.
  public private(set) var byteCount = 0

  /// - Parameters:
  ///   - alignment: in bytes.
  ///   - guardBytes: left free behind each tensor, for canaries.
  public init(_ tensors: [(name: String, type: TensorType)], alignment: Int, guardBytes: Int = 0) {
    for tensor in tensors {
      offsets[tensor.name] = byteCount
      byteCount = aligned(byteCount + tensor.type.byteCount + guardBytes, to: alignment)
    }
    byteCount = max(byteCount, alignment)
  }
}

/// Where every value of a graph lies. Values whose lifetimes do not meet share bytes; the plan is a pure function of
/// the graph and knows no device but its alignment.
public struct MemoryPlan: Hashable, Sendable {
  public enum Location: Hashable, Sendable {
    /// The variable's own bytes, outside of the plan.
    case variable(String)
    /// Byte offset in the buffer of constants.
    case constant(Int)
    /// Byte offset in the buffer of gradients, which mirrors that of the parameters.
    case gradient(Int)
    /// Byte offset in the buffer that activations and workspaces share.
    case activation(Int)
  }

  public struct Copy: Hashable, Sendable {
    public var value: Value
    public var variable: String
  }

  /// A location for every result of every node.
  public private(set) var locations: [Value: Location] = [:]
  /// Byte offset, in the activations' buffer, of the workspace of a node that asked for one.
  public private(set) var workspaces: [Int: Int] = [:]
  public private(set) var constantByteCount: Int
  public private(set) var activationByteCount: Int
  /// What the activations would take if none shared bytes.
  public private(set) var unsharedByteCount = 0
  /// Updates that no kernel makes in place: to be copied when all nodes have run.
  public private(set) var copies: [Copy] = []

  /// - Parameters:
  ///   - alignment: of every tensor, in bytes.
  ///   - guardBytes: left free behind each tensor, for canaries.
  ///   - workspaceBytes: scratch memory that the kernels of a node want, by node.
  ///   - parameters: where the parameters lie in their buffer, by name.
  ///   - sharesBytes: false gives every value bytes of its own, so that guards outlive the run.
  public init(
    _ graph: Graph, alignment: Int, guardBytes: Int = 0, workspaceBytes: [Int: Int] = [:],
    parameters: ArenaLayout = ArenaLayout([], alignment: 1), sharesBytes: Bool = true
  ) {
    constantByteCount = 0
    activationByteCount = 0

    // 1. Inputs, constants, gradients and updates have a place that is given.
    for (index, node) in graph.nodes.enumerated() {
      switch node.operation {
      case .input(let input): locations[Value(node: index)] = .variable(input.label)
      case .constant:
        locations[Value(node: index)] = .constant(constantByteCount)
        constantByteCount = aligned(constantByteCount + node.types[0].byteCount + guardBytes, to: alignment)
      case .optimizerStep(let step):
        for (parameter, gradient) in zip(step.parameters, step.gradients) {
          guard case .input(let input) = graph.nodes[node.inputs[parameter].node].operation,
            let offset = parameters.offsets[input.label]
          else { continue }
          locations[graph.storage(of: node.inputs[gradient])] = .gradient(offset)
        }
      default: break
      }
    }
    placeUpdates(graph)

    // 2. Everything else lives from the node that writes it to the last one that reads it.
    var blocks = lifetimes(graph).filter { locations[$0.key] == nil }.map { value, last in
      Block(value: value, node: value.node, last: last, byteCount: graph.type(of: value).byteCount + guardBytes)
    }
    for (node, byteCount) in workspaceBytes where byteCount > 0 {
      blocks.append(Block(value: nil, node: node, last: node, byteCount: byteCount + guardBytes))
    }
    place(blocks, alignment: alignment, sharesBytes: sharesBytes)

    // 3. A reshape shows the bytes of what it reshapes.
    for (index, node) in graph.nodes.enumerated() {
      guard case .reshape = node.operation else { continue }
      locations[Value(node: index)] = locations[graph.storage(of: Value(node: index))]
    }
    constantByteCount = max(constantByteCount, alignment)
    activationByteCount = max(activationByteCount, alignment)
  }

  private struct Block {
    var value: Value?
    var node: Int
    var last: Int
    var byteCount: Int
  }

  /// An update is made in place when the node that computes the new value may overwrite the old one, and is the last
  /// to read it.
  private mutating func placeUpdates(_ graph: Graph) {
    var lastRead: [Value: Int] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for input in node.inputs { lastRead[graph.storage(of: input)] = index }
    }
    for update in graph.updates {
      guard case .input(let input) = graph.nodes[update.variable.node].operation else { continue }
      let producer = graph.nodes[update.value.node]
      let mayOverwrite = producer.operation.rules.inPlace.contains { pair in
        pair.output == update.value.output && pair.operand < producer.inputs.count
          && producer.inputs[pair.operand] == update.variable
      }
      if mayOverwrite, lastRead[update.variable] == update.value.node, locations[update.value] == nil {
        locations[update.value] = .variable(input.label)
      } else {
        copies.append(Copy(value: update.value, variable: input.label))
      }
    }
  }

  /// For each stored result the last node that needs it.
  private func lifetimes(_ graph: Graph) -> [Value: Int] {
    var last: [Value: Int] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for input in node.inputs { last[graph.storage(of: input)] = index }
      if case .reshape = node.operation { continue }
      for output in node.types.indices { last[Value(node: index, output: output)] = index }
    }
    for value in graph.results { last[graph.storage(of: value)] = graph.nodes.count }
    return last
  }

  /// Largest first, each at the lowest offset that is free during its life.
  private mutating func place(_ blocks: [Block], alignment: Int, sharesBytes: Bool) {
    var placed: [(block: Block, offset: Int)] = []
    let order = blocks.sorted {
      ($1.byteCount, $0.node, $0.value?.output ?? -1) < ($0.byteCount, $1.node, $1.value?.output ?? -1)
    }
    for block in order {
      var offset = 0
      let busy = placed.filter { !sharesBytes || ($0.block.node <= block.last && block.node <= $0.block.last) }
      for other in busy.sorted(by: { $0.offset < $1.offset }) {
        if offset + block.byteCount <= other.offset { break }
        offset = max(offset, aligned(other.offset + other.block.byteCount, to: alignment))
      }
      placed.append((block, offset))
      activationByteCount = max(activationByteCount, offset + block.byteCount)
      unsharedByteCount += aligned(block.byteCount, to: alignment)
      if let value = block.value {
        locations[value] = .activation(offset)
      } else {
        workspaces[block.node] = offset
      }
    }
  }
}

private func aligned(_ value: Int, to alignment: Int) -> Int { (value + alignment - 1) / alignment * alignment }
