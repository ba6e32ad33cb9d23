import KeelCL

/// Launches of a CPU device in an order, and in groups, that wake its workers seldom.
///
/// A launch costs some microseconds before it computes anything: on a small network more than it computes. Launches too
/// small to be shared out run one after the other on one core, as one launch; launches that could run in any order run
/// beside each other, as one launch. What each of them computes is unchanged, and so is every order that matters: of two
/// launches that touch the same bytes, one of them writing, the first stays first.
struct LaunchSchedule {
  /// What becomes one launch.
  struct Group {
    /// Lists run beside each other, each in its order. One list of one is a launch as it was.
    var branches: [[BoundLaunch]]
  }

  private(set) var groups: [Group] = []

  /// - Parameter mayMerge: whether a launch's program can be part of another.
  init(_ launches: [BoundLaunch], mayMerge: (BoundLaunch) throws -> Bool) rethrows {
    let parts = try launches.map { Part(launch: $0, mayMerge: try mayMerge($0)) }
    let before = Self.dependencies(launches)
    var isDone = [Bool](repeating: false, count: launches.count)
    func isReady(_ index: Int) -> Bool { !isDone[index] && before[index].allSatisfy { isDone[$0] } }

    var first = 0
    while true {
      while first < parts.count, isDone[first] { first += 1 }
      if first == parts.count { return }
      // Small ones wait, so that there are many when nothing else is left to do.
      let ready = (first..<parts.count).filter { !parts[$0].isSmall && isReady($0) }
      if ready.isEmpty {
        var run: [BoundLaunch] = []
        for index in first..<parts.count where parts[index].isSmall && isReady(index) {
          isDone[index] = true
          run.append(launches[index])
        }
        groups.append(Group(branches: [run]))
      } else {
        var beside = ready.filter { parts[$0].goesBeside }
        // A small one beside a kernel of its own file is a line more of the same program.
        let files = Set(beside.map { launches[$0].spec.file })
        beside += (first..<parts.count).filter {
          parts[$0].isSmall && isReady($0) && files.contains(launches[$0].spec.file)
        }
        if beside.count > 1 { groups.append(Group(branches: beside.map { [launches[$0]] })) }
        for index in ready where beside.count < 2 || !beside.contains(index) {
          groups.append(Group(branches: [[launches[index]]]))
        }
        for index in beside { isDone[index] = true }
        for index in ready { isDone[index] = true }
      }
    }
  }

  private struct Part {
    /// Several cores have nothing to share, or gain less by sharing than waking them costs.
    var isSmall: Bool
    /// Long enough to be shared out, and not so long that a launch of its own would cost little.
    var goesBeside: Bool

    init(launch: BoundLaunch, mayMerge: Bool) {
      let items = launch.global.reduce(1, *)
      isSmall = mayMerge && (items == 1 || launch.estimatedSeconds < 5e-6)
      goesBeside = mayMerge && launch.estimatedSeconds < 200e-6
    }
  }

  /// For each launch the earlier ones that must have ended before it begins.
  private static func dependencies(_ launches: [BoundLaunch]) -> [[Int]] {
    launches.indices.map { index in (0..<index).filter { launches[$0].conflicts(with: launches[index]) } }
  }
}

extension BoundLaunch {
  /// On one core, from rates and costs that are typical of one.
  fileprivate var estimatedSeconds: Double {
    // A kernel that leaves its groups to the driver takes one element at a time.
    let slowness = local == nil ? 8.0 : 1
    return (flops / 40e9 + bytes / 10e9) * slowness + Double(global.reduce(1, *)) * 10e-9
  }

  /// Whether one of the two writes what the other touches. What is unknown is taken to.
  fileprivate func conflicts(with other: BoundLaunch) -> Bool {
    guard let own = footprint, let others = other.footprint else { return true }
    func meet(_ a: [Buffer], _ b: [Buffer]) -> Bool { a.contains { a in b.contains { a.overlaps($0) } } }
    return meet(own.writes, others.writes) || meet(own.writes, others.reads) || meet(own.reads, others.writes)
  }
}

extension Buffer {
  /// Whether the two have bytes in common.
  fileprivate func overlaps(_ other: Buffer) -> Bool {
    (parent ?? self) === (other.parent ?? other) && byteOffset < other.byteOffset + other.byteCount
      && other.byteOffset < byteOffset + byteCount
  }
}

extension ProgramLibrary {
  /// Whether the launch's program uses nothing that only a kernel of its own has: local memory, barriers, sizes and
  /// indices of groups.
  func isMergeable(_ launch: BoundLaunch) throws -> Bool {
    if launch.local.map({ $0.contains { $0 != 1 } }) ?? false { return false }
    let text = try text(of: launch.spec)
    return !["__local", "barrier(", "get_group_id", "get_num_groups", "get_local_", "get_global_size"].contains {
      text.contains($0)
    }
  }
}
