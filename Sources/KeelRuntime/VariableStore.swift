import KeelCL
import KeelCore
import KeelGraph
import KeelPrimitives

/// A value that outlives a run.
public struct Variable: Hashable, Sendable {
  public var name: String
  public var type: TensorType
  public var role: Role

  public init(_ name: String, _ type: TensorType, _ role: Role) {
    self.name = name
    self.type = type
    self.role = role
  }
}

/// The variables of a model and of its training on one device.
///
/// Parameters, running statistics and optimizer slots lie side by side in a buffer for each role; data and control
/// values have a buffer each. Executables that name the same variable share it.
public final class VariableStore {
  /// A variable that nobody declared, or with another type.
  public struct Failure: Error, Equatable, CustomStringConvertible {
    public let description: String
  }

  public let context: ComputeContext
  private let guardBytes: Int
  private var variables: [String: Variable] = [:]
  private var slices: [String: Buffer] = [:]
  private(set) var arenas: [(role: Role, buffer: Buffer, layout: ArenaLayout, variables: [Variable])] = []
  /// Counts the declarations and releases that replaced a buffer.
  private(set) var generation = 0
  /// Where each parameter lies in the buffer of parameters.
  public private(set) var parameterLayout: ArenaLayout

  /// - Parameter guardBytes: left behind each variable and filled with 0xFF, for ``brokenGuards()``.
  public init(_ context: ComputeContext, guardBytes: Int = 0) {
    self.context = context
    self.guardBytes = guardBytes
    parameterLayout = ArenaLayout([], alignment: context.profile.alignment)
  }

  /// Makes room for variables, all zero.
  ///
  /// Parameters, running statistics and optimizer slots are declared once, all of a role together. A data or control
  /// variable may be declared again: with the same type it stays as it is, with another it gets a new buffer, and
  /// executables compiled with the old one refuse to run.
  /// - Throws: names that are taken, tensors without elements, or more bytes than the device has.
  public func declare(_ new: [Variable]) throws {
    var names: Set<String> = []
    for variable in new {
      guard names.insert(variable.name).inserted, variables[variable.name].map({ isReplaceable($0, variable) }) ?? true
      else { throw Failure(description: "[variables] \(variable.name) is declared already") }
      guard variable.type.count > 0 else {
        throw Failure(description: "[variables] \(variable.name) expects elements, got \(variable.type)")
      }
    }
    for role in [Role.parameter, .runningStatistic, .optimizerSlot] {
      // Matrices lie together, and so does the rest, of which an optimizer's flat launch is often all that is left.
      let all = new.filter { $0.role == role }
      let group = all.filter { $0.type.shape.rank > 1 } + all.filter { $0.type.shape.rank < 2 }
      if group.isEmpty { continue }
      guard !arenas.contains(where: { $0.role == role }) else {
        throw Failure(description: "[variables] \(role)s are declared once, all together")
      }
      let layout = try allocate(group, role)
      if role == .parameter { parameterLayout = layout }
    }
    for variable in new where variable.role == .data || variable.role == .control {
      if variables[variable.name] == variable { continue }
      release(variable.name)
      _ = try allocate([variable], variable.role)
    }
  }

  /// Forgets a variable of its own buffer, so that the next declaration may change its type.
  public func release(_ name: String) {
    guard let known = variables[name], known.role == .data || known.role == .control else { return }
    arenas.removeAll { $0.variables == [known] }
    variables[name] = nil
    slices[name] = nil
    generation += 1
  }

  private func isReplaceable(_ known: Variable, _ new: Variable) -> Bool {
    known.role == new.role && (known.role == .data || known.role == .control)
  }

  private func allocate(_ group: [Variable], _ role: Role) throws -> ArenaLayout {
    let layout = ArenaLayout(
      group.map { ($0.name, $0.type) }, alignment: context.profile.alignment, guardBytes: guardBytes)
    guard layout.byteCount <= context.profile.maxAllocationBytes else {
      throw Failure(
        description: "[variables] \(role) of \(layout.byteCount) bytes expected within the device's largest buffer, "
          + "\(context.profile.maxAllocationBytes) bytes")
    }
    let arena = try context.buffer(byteCount: layout.byteCount, filledWith: guardBytes > 0 ? [0xFF] : [0])
    for variable in group {
      let slice = try arena.slice(byteOffset: layout.offsets[variable.name] ?? 0, byteCount: variable.type.byteCount)
      if guardBytes > 0 { try context.queue.fill(slice) }
      variables[variable.name] = variable
      slices[variable.name] = slice
    }
    arenas.append((role, arena, layout, group))
    return layout
  }

  /// The type of a variable, or nil when there is none of this name.
  public func type(of name: String) -> TensorType? { variables[name]?.type }

  public func buffer(_ name: String) throws -> Buffer {
    guard let buffer = slices[name] else {
      throw Failure(description: "[variables] no \(name); there are \(variables.keys.sorted().joined(separator: ", "))")
    }
    return buffer
  }

  /// Copies a tensor to the device. Throws when the types differ.
  public func write(_ name: String, _ tensor: HostTensor) throws {
    let buffer = try buffer(name)
    guard tensor.type == variables[name]?.type else {
      throw Failure(
        description: "[variables] \(name) expects \(variables[name].map { "\($0.type)" } ?? "?"), got \(tensor.type)")
    }
    try context.queue.write(buffer, bytes: tensor.bytes)
  }

  /// Waits for the device and copies a variable back.
  public func read(_ name: String) throws -> HostTensor {
    let buffer = try buffer(name)
    guard let type = variables[name]?.type else { throw Failure(description: "[variables] no \(name)") }
    return try HostTensor(type, bytes: try context.queue.read(buffer, byteCount: type.byteCount))
  }

  /// Waits for the device and copies all variables of a role back, those that lie side by side at once.
  public func read(_ role: Role) throws -> [String: HostTensor] {
    var tensors: [String: HostTensor] = [:]
    for arena in arenas where arena.role == role {
      let bytes = try context.queue.read(arena.buffer)
      for variable in arena.variables {
        let start = arena.layout.offsets[variable.name] ?? 0
        tensors[variable.name] = try HostTensor(
          variable.type, bytes: Array(bytes[start..<start + variable.type.byteCount]))
      }
    }
    return tensors
  }

  /// Runs `body` and puts parameters, running statistics and optimizer slots back as they were.
  public func preservingState(_ body: () throws -> Void) throws {
    let saved = try arenas.filter { $0.role != .data && $0.role != .control }.map { arena in
      let copy = try Buffer(context: context.context, byteCount: arena.layout.byteCount)
      try context.queue.copy(from: arena.buffer, to: copy, byteCount: arena.layout.byteCount)
      return (arena: arena.buffer, copy: copy, byteCount: arena.layout.byteCount)
    }
    let outcome = Result { try body() }
    for entry in saved { try context.queue.copy(from: entry.copy, to: entry.arena, byteCount: entry.byteCount) }
    try context.queue.finish()
    try outcome.get()
  }

  /// Names of the variables behind which something was written.
  public func brokenGuards() throws -> [String] {
    guard guardBytes > 0 else { return [] }
    var broken: [String] = []
    for arena in arenas {
      let bytes = try context.queue.read(arena.buffer)
      for variable in arena.variables {
        let end = (arena.layout.offsets[variable.name] ?? 0) + variable.type.byteCount
        if bytes[end..<end + guardBytes].contains(where: { $0 != 0xFF }) { broken.append(variable.name) }
      }
    }
    return broken
  }
}
