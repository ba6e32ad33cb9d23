import Foundation
import KeelCL
import KeelCore

extension ComputeContext {
  /// Compiles launches; the order in which they run, and which of them run as one, is that of a ``LaunchSchedule``.
  ///
  /// - Parameter merges: false compiles each by itself, in the order given. So does a device that is no CPU.
  public func compile(_ launches: [BoundLaunch], merges: Bool) throws -> [CompiledLaunch] {
    try compile(launches, merges: merges, patience: MergedProgram.patience)
  }

  /// - Parameter patience: how often a worker looks whether a phase that takes so many seconds has ended.
  func compile(
    _ launches: [BoundLaunch], merges: Bool, patience: (Double) -> Int64
  ) throws -> [CompiledLaunch] {
    guard merges, profile.isCPU else { return try launches.map { try compile($0) } }
    return try schedule(launches).groups.flatMap { group in
      switch group {
      case .single(let launch): [try compile(launch)]
      case .merged(let phases, let choice):
        try MergedProgram.split(phases).map { try compile(merging: $0, choice, patience) }
      }
    }
  }

  /// What would become of the launches, a line for each that has some of them: for a person.
  public func mergedLaunches(_ launches: [BoundLaunch]) throws -> [String] {
    guard profile.isCPU else { return launches.map(\.label) }
    return try schedule(launches).groups.map { group in
      switch group {
      case .single(let launch): launch.label
      case .merged(let phases, let choice): label(phases, choice)
      }
    }
  }

  /// Whether each of the launches can be part of a merged one.
  public func areMergeable(_ launches: [BoundLaunch]) throws -> Bool {
    try profile.isCPU && launches.allSatisfy { try programs.isMergeable($0) }
  }

  private func schedule(_ launches: [BoundLaunch]) throws -> LaunchSchedule {
    try LaunchSchedule(launches, workers: profile.mostWorkers ?? 1, mayMerge: programs.isMergeable)
  }

  private func label(_ phases: [LaunchSchedule.Phase], _ choice: LaunchSchedule.WorkerChoice) -> String {
    "\(phases.reduce(0) { $0 + $1.branches.joined().count }) launches in one, \(choice)"
  }

  private func compile(
    merging phases: [LaunchSchedule.Phase], _ choice: LaunchSchedule.WorkerChoice, _ patience: (Double) -> Int64
  ) throws -> CompiledLaunch {
    let merged = try MergedProgram(phases, programs, patience)
    let kernel = try programs.kernel(MergedProgram.kernel, text: merged.text, file: "merged")
    let table = try Buffer(context: context, byteCount: merged.table.count * MemoryLayout<Int64>.size)
    try queue.write(table, bytes: merged.table.withUnsafeBytes { Array($0) })
    try kernel.setArgument(0, table)
    try kernel.setArgument(1, try buffer(byteCount: MergedProgram.syncBytes))
    for (index, buffer) in merged.buffers.enumerated() { try kernel.setArgument(4 + index, buffer) }
    let launches = phases.flatMap { $0.branches.joined() }
    return CompiledLaunch(
      label: label(phases, choice), parts: merged.listing, kernel: kernel, global: [choice.workers], local: [1],
      flops: launches.reduce(0) { $0 + $1.flops }, bytes: launches.reduce(0) { $0 + $1.bytes }, path: "",
      turns: MergedTurns())
  }
}

/// What a merged launch is told anew each time: how often it is to go through its phases, and which half of its counters
/// the launch before it has left as 0.
final class MergedTurns {
  private var parity: Int32 = 0

  func set(runs: Int, in kernel: Kernel) throws(CLError) {
    try kernel.setArgument(2, parity)
    try kernel.setArgument(3, Int32(clamping: runs))
  }

  /// After a launch that the driver has taken.
  func advance() { parity = 1 - parity }
}

/// The text of one kernel that does the work of several launches, and the table that says which: see `merged.cl`.
///
/// The text has the functions, in the order of their texts, and nothing of their sizes or of when and how often they are
/// used: it does not grow with the layers of a network, and is the same for another size of batch.
struct MergedProgram {
  static let kernel = "merged"
  /// As `merged.cl` can count.
  static let mostWorkers = 255
  /// Tiles of a launch, and launches beside each other: their product is what a phase can count.
  static let mostTiles = 128
  static let mostBranches = 4
  /// Two sets of three lines of 64 bytes.
  static let syncBytes = 2 * 3 * 64

  private(set) var text = ""
  /// Whole buffers: slices are offsets, so that few arguments do.
  private(set) var buffers: [Buffer] = []
  /// The kernel's first argument: extents, offsets and integers as they are, scalars by their bits.
  private(set) var table: [Int64] = []
  /// A line a launch, and one a phase above it.
  private(set) var listing: [String] = []

  /// A kernel of a program, as a function.
  private struct Function: Hashable {
    var kernel: String
    var spec: ProgramSpec
  }

  init(_ phases: [LaunchSchedule.Phase], _ library: ProgramLibrary, _ patience: (Double) -> Int64) throws {
    var parts: [Function: (text: String, launch: BoundLaunch)] = [:]
    for launch in phases.flatMap({ $0.branches.joined() }) {
      let function = Function(kernel: launch.kernel, spec: launch.spec)
      guard parts[function] == nil else { continue }
      parts[function] = (try library.text(of: launch.spec, withKernel: launch.kernel), launch)
    }
    let ordered = parts.sorted { ($0.key.kernel, $0.value.text) < ($1.key.kernel, $1.value.text) }
    var functions: [Function: Int] = [:]
    var cases = ""
    for (number, part) in ordered.enumerated() {
      functions[part.key] = number
      text += KernelText(part.value.text).part(number)
      cases += Self.call(part.value.launch, number)
    }

    table = [Int64(phases.count)] + phases.map { _ in 0 }
    for (index, phase) in phases.enumerated() {
      table[1 + index] = Int64(table.count)
      let tiles = phase.branches.map { $0.count == 1 ? $0[0].tiles.count : 1 }
      let seconds = phase.branches.joined().reduce(0) { $0 + $1.estimatedSeconds }
      table += [Int64(tiles.reduce(0, +)), patience(seconds)]
      listing.append("phase \(index), \(tiles.reduce(0, +)) tile\(tiles == [1] ? "" : "s")")
      for (branch, tiles) in zip(phase.branches, tiles) {
        for (position, launch) in branch.enumerated() {
          let function = functions[Function(kernel: launch.kernel, spec: launch.spec)] ?? 0
          append(
            launch, function, tiles: position == 0 ? tiles : 0,
            items: branch.count == 1 ? launch.tiles.items : launch.items)
          let path = launch.path.isEmpty ? "" : "  \(launch.path)"
          listing.append("  \(position == 0 ? "" : "  then ")\(launch.label)\(path)")
        }
      }
      table += [0, -1]
    }

    let names = buffers.indices.map { "b\($0)" }
    text += """
      #define MERGED_PARAMETERS \(names.map { ", __global uchar* \($0)" }.joined())
      #define MERGED_BUFFERS \(names.joined(separator: ", "))
      #define MERGED_CASES \(cases)
      \(try library.text(of: ProgramSpec("merged.cl", .float32)))
      """
  }

  /// Phases for programs that a driver takes: a kernel has some hundred arguments, and a compiler its patience.
  static func split(_ phases: [LaunchSchedule.Phase]) -> [[LaunchSchedule.Phase]] {
    var parts: [[LaunchSchedule.Phase]] = []
    var functions: Set<Function> = []
    var buffers: Set<ObjectIdentifier> = []
    func fits(_ phase: LaunchSchedule.Phase) -> Bool {
      phase.buffers.count <= mostBuffers && Self.functions(of: phase).count <= mostFunctions
    }
    for phase in phases.flatMap({ fits($0) ? [$0] : $0.singles }) {
      let newFunctions = Self.functions(of: phase)
      if parts.isEmpty || functions.union(newFunctions).count > mostFunctions
        || buffers.union(phase.buffers).count > mostBuffers || parts[parts.count - 1].count == mostPhases
      {
        parts.append([])
        (functions, buffers) = ([], [])
      }
      functions.formUnion(newFunctions)
      buffers.formUnion(phase.buffers)
      parts[parts.count - 1].append(phase)
    }
    return parts
  }

  private static func functions(of phase: LaunchSchedule.Phase) -> Set<Function> {
    Set(phase.branches.joined().map { Function(kernel: $0.kernel, spec: $0.spec) })
  }

  private static let mostBuffers = 100
  /// Some keep a quarter of a megabyte of what they pack on the stack of a thread; as functions that are not inlined, one
  /// after the other.
  static let mostFunctions = 32
  private static let mostPhases = 4000

  /// How often a worker looks whether a phase has ended before it leaves the launch: for some ten milliseconds, at 10 to
  /// 40 ns a look, and several times as long as the phase should take.
  static func patience(_ seconds: Double) -> Int64 { 1_000_000 + Int64(min(seconds, 1e6) * 500e6) }

  /// The launch's entry in the table.
  private mutating func append(_ launch: BoundLaunch, _ function: Int, tiles: Int, items: Int) {
    let start = table.count
    table += [function, tiles, items, launch.items].map { Int64($0) } + launch.extents.map { Int64($0) } + [0]
    for argument in launch.arguments {
      switch argument {
      case .int(let value), .long(let value): table.append(Int64(value))
      case .real(let value) where launch.spec.dtype == .float64: table.append(Int64(bitPattern: value.bitPattern))
      case .real(let value): table.append(Int64(Float(value).bitPattern))
      case .buffer(let buffer):
        let whole = buffer.parent ?? buffer
        let index = buffers.firstIndex { $0 === whole } ?? buffers.count
        if index == buffers.count { buffers.append(whole) }
        table += [Int64(index), Int64(buffer.byteOffset)]
      }
    }
    table[start + Self.argumentsStart - 1] = Int64(table.count - start)
  }

  /// Numbers of an entry before the arguments.
  private static let argumentsStart = 8

  /// The case of a function: the items of a tile.
  private static func call(_ launch: BoundLaunch, _ number: Int) -> String {
    var next = argumentsStart
    func argument() -> String {
      next += 1
      return "entry[\(next - 1)]"
    }
    let arguments = launch.arguments.map { kind -> String in
      switch kind {
      case .int: "(int)\(argument())"
      case .long: argument()
      case .real where launch.spec.dtype == .float64: "as_double(\(argument()))"
      case .real: "as_float((uint)\(argument()))"
      case .buffer: "(__global void*)(buffers[\(argument())] + \(argument()))"
      }
    }
    return "case \(number): for (long i = begin; i < end; i++) { "
      + "const size_t x = i % entry[EXTENT], yz = i / entry[EXTENT]; "
      + "\(launch.kernel)_part\(number)(x, yz % entry[EXTENT + 1], yz / entry[EXTENT + 1], entry[EXTENT], "
      + "entry[EXTENT + 1], entry[EXTENT + 2], \(arguments.joined(separator: ", "))); } break; "
  }
}

extension BoundLaunch {
  /// Work-items on three axes.
  fileprivate var extents: [Int] { global + [Int](repeating: 1, count: 3 - global.count) }
}

extension LaunchSchedule.Phase {
  /// The buffers that its launches are given, or those that these are slices of.
  fileprivate var buffers: Set<ObjectIdentifier> {
    var found: Set<ObjectIdentifier> = []
    for argument in branches.joined().flatMap(\.arguments) {
      if case .buffer(let buffer) = argument { found.insert(ObjectIdentifier(buffer.parent ?? buffer)) }
    }
    return found
  }

  /// Its launches one after the other.
  fileprivate var singles: [Self] { branches.joined().map { Self(branches: [[$0]]) } }
}
