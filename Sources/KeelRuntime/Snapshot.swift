import KeelCL
import KeelCore
import KeelGraph
import KeelPrimitives

/// Room on the host for the values of variables at a point of the queue.
public final class Snapshot {
  /// Variables that lie side by side.
  struct Part {
    let buffer: Buffer
    let layout: ArenaLayout
    let variables: [Variable]
    let memory: HostMemory
  }

  private let queue: Queue
  private let parts: [Part]

  init(_ queue: Queue, _ parts: [Part]) {
    self.queue = queue
    self.parts = parts
  }

  /// Takes the values as they are behind the commands given so far; does not wait.
  public func take() throws {
    for part in parts { try queue.read(part.buffer, into: part.memory) }
  }

  /// Puts the values back as they were taken, behind the commands given so far, and waits. Where some of them could not
  /// be taken it throws, and puts none back.
  public func restore() throws {
    for part in parts { try part.memory.wait() }
    for part in parts { try queue.write(part.buffer, from: part.memory) }
    for part in parts { try part.memory.wait() }
  }

  /// Waits, and gives the values of a role by name.
  public func values(_ role: Role) throws -> [String: HostTensor] {
    var values: [String: HostTensor] = [:]
    for part in parts {
      for variable in part.variables where variable.role == role { values[variable.name] = try value(variable, part) }
    }
    return values
  }

  /// Waits, and gives a variable's value. Throws where it is none of those taken.
  public func value(_ name: String) throws -> HostTensor {
    for part in parts {
      if let variable = part.variables.first(where: { $0.name == name }) { return try value(variable, part) }
    }
    throw VariableStore.Failure(description: "[variables] \(name) is not part of the snapshot")
  }

  private func value(_ variable: Variable, _ part: Part) throws -> HostTensor {
    let offset = part.layout.offsets[variable.name] ?? 0
    return try HostTensor(variable.type, bytes: part.memory.bytes(at: offset, count: variable.type.byteCount))
  }
}

extension VariableStore {
  /// What the variables of some roles take.
  public func byteCount(_ roles: Set<Role>) -> Int {
    arenas.filter { roles.contains($0.role) }.reduce(0) { $0 + $1.layout.byteCount }
  }

  /// Room for the values of all variables of some roles, and of some more.
  public func snapshot(_ roles: Set<Role>, and names: [String] = []) -> Snapshot {
    Snapshot(
      context.queue,
      arenas.filter { arena in
        roles.contains(arena.role) || arena.variables.contains { names.contains($0.name) }
      }.map { arena in
        Snapshot.Part(
          buffer: arena.buffer, layout: arena.layout, variables: arena.variables,
          memory: HostMemory(byteCount: arena.layout.byteCount))
      })
  }
}
