import KeelCL

/// Launches of a CPU device as phases that its cores share out among themselves.
///
/// A launch costs some microseconds before it computes anything, and tens of them until another core is awake: on a small
/// network more than it computes. So launches become parts of one, ``MergedProgram``, whose workers stay awake from one
/// to the next. What each of them computes is unchanged, and so is every order that matters: of two launches that touch
/// the same bytes, one of them writing, the first stays first.
struct LaunchSchedule {
  /// Launches that may run in any order, and what must be done before the next of them begin.
  struct Phase {
    /// Lists beside each other, each in its order. One of several launches is too short to be shared out.
    var branches: [[BoundLaunch]]
  }

  /// What becomes one launch.
  enum Group {
    /// The phases of a merged one, and how many workers it is to have.
    case merged([Phase], WorkerChoice)
    /// One as it is.
    case single(BoundLaunch)
  }

  /// How many workers a merged launch has: as many as it should take the least time with. Work of a few microseconds has
  /// one, which waits for nobody.
  struct WorkerChoice: CustomStringConvertible {
    /// What is expected with 1, 2, … workers.
    let seconds: [Double]

    /// The best number of workers.
    var workers: Int { 1 + (seconds.indices.min { seconds[$0] < seconds[$1] } ?? 0) }

    var description: String {
      func microseconds(_ workers: Int) -> String { "\((seconds[workers - 1] * 1e7).rounded() / 10) µs" }
      guard !seconds.isEmpty else { return "1 worker" }
      let other = workers > 1 ? 1 : min(2, seconds.count)
      return "\(workers) worker\(workers == 1 ? "" : "s"), estimated \(microseconds(workers))"
        + (other == workers ? "" : " (\(microseconds(other)) with \(other))")
    }
  }

  private(set) var groups: [Group] = []

  /// - Parameters:
  ///   - workers: the most that a merged launch may have.
  ///   - mayMerge: whether a launch's program can be part of another.
  init(_ launches: [BoundLaunch], workers: Int, mayMerge: (BoundLaunch) throws -> Bool) rethrows {
    let mergeable = try launches.map { try mayMerge($0) }
    let before = Self.dependencies(launches)
    var isDone = [Bool](repeating: false, count: launches.count)
    var first = 0
    func isReady(_ index: Int) -> Bool { !isDone[index] && before[index].allSatisfy { isDone[$0] } }
    func ready(_ condition: (Int) -> Bool) -> [Int] {
      (first..<launches.count).filter { condition($0) && isReady($0) }
    }

    var phases: [Phase] = []
    func close() {
      if !phases.isEmpty { groups.append(Self.merged(phases, workers: workers)) }
      phases = []
    }
    while true {
      while first < launches.count, isDone[first] { first += 1 }
      if first == launches.count { break }
      var branches = ready { mergeable[$0] && !launches[$0].isShort }.map { [$0] }
      // Short ones become one list, those included that wait for no others. Those that are done here free no others
      // that run beside them.
      var list: [Int] = []
      while let next = (first..<launches.count).first(where: { mergeable[$0] && launches[$0].isShort && isReady($0) }) {
        isDone[next] = true
        list.append(next)
      }
      if !list.isEmpty { branches.append(list) }
      if branches.isEmpty {
        close()
        for index in ready({ !mergeable[$0] }) {
          isDone[index] = true
          groups.append(.single(launches[index]))
        }
      } else {
        for index in branches.joined() { isDone[index] = true }
        // A phase can count so many tiles.
        for start in stride(from: 0, to: branches.count, by: MergedProgram.mostBranches) {
          let part = branches[start..<min(start + MergedProgram.mostBranches, branches.count)]
          phases.append(Phase(branches: part.map { $0.map { launches[$0] } }))
        }
      }
    }
    close()
  }

  /// The phases with the number of workers that is best for them; one worker has one list.
  private static func merged(_ phases: [Phase], workers: Int) -> Group {
    let launches = phases.flatMap { $0.branches.joined() }
    if launches.count == 1 { return .single(launches[0]) }
    let choice = WorkerChoice(seconds: (1...max(workers, 1)).map { seconds(phases, workers: $0) })
    return .merged(choice.workers == 1 ? [Phase(branches: [launches])] : phases, choice)
  }

  /// What the phases take with as many workers, about.
  private static func seconds(_ phases: [Phase], workers: Int) -> Double {
    phases.reduce(0) { sum, phase in
      let branches = phase.branches.map { branch in
        (
          all: branch.reduce(0) { $0 + $1.estimatedSeconds },
          tile: branch.count == 1 ? branch[0].estimatedSeconds / Double(branch[0].tiles.count) : .infinity
        )
      }
      let all = branches.reduce(0) { $0 + $1.all }
      let longest = branches.reduce(0) { max($0, min($1.tile, $1.all)) }
      // A cache line goes to and fro between the cores for each worker and phase.
      return sum + max(all / Double(workers), longest) + (workers > 1 ? 50e-9 * Double(workers) : 0)
    }
  }

  /// For each launch the earlier ones that must have ended before it begins.
  private static func dependencies(_ launches: [BoundLaunch]) -> [[Int]] {
    launches.indices.map { index in (0..<index).filter { launches[$0].conflicts(with: launches[index]) } }
  }
}

extension BoundLaunch {
  /// On one core, from rates and costs that are typical of one.
  var estimatedSeconds: Double {
    // A kernel that leaves its groups to the driver takes one element at a time.
    let slowness = local == nil ? 8.0 : 1
    return (flops / 40e9 + bytes / 10e9) * slowness + Double(items) * 10e-9
  }

  /// To hand it to another core takes about as long as to do it.
  fileprivate var isShort: Bool { estimatedSeconds < 0.7e-6 }

  /// Work-items.
  var items: Int { global.reduce(1, *) }

  /// Into how many tiles it goes, each of so many work-items: none so short that claiming it shows.
  var tiles: (count: Int, items: Int) {
    let wanted = min(max(Int(estimatedSeconds / 0.4e-6), 1), MergedProgram.mostTiles, items)
    let share = divideUp(items, wanted)
    return (divideUp(items, share), share)
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
  /// Whether the launch's kernel uses nothing that only a kernel of its own has: local memory, barriers, sizes and
  /// indices of groups.
  func isMergeable(_ launch: BoundLaunch) throws -> Bool {
    if launch.local.map({ $0.contains { $0 != 1 } }) ?? false { return false }
    let text = try text(of: launch.spec, withKernel: launch.kernel)
    return !KernelText.has(
      anyOf: ["__local ", "barrier(", "get_group_id", "get_num_groups", "get_local_"], in: text)
  }
}
