import Foundation
import KeelCL
import KeelCore
import KeelGraph
import KeelPrimitives

/// A graph compiled for one device: launches with their arguments set, in the order in which they run.
///
/// `run()` is a loop over launches. It allocates nothing and does not wait.
public final class Executable {
  /// How a graph is compiled.
  public struct Options: Sendable {
    /// Off: structured operations run as their definitions say, every elementwise function is a launch.
    public var fuses = true
    /// Passes that are left out, of ``Pipeline/optional``: what one of them gives shows in what is missing without it.
    public var omittedPasses = Pipeline.unproven
    /// What `KEEL_PASSES` asked for.
    private(set) var addedPasses: Set<String> = []
    /// Whether all launches become one on CPU devices, whose cores stay awake from one to the next; see
    /// ``ComputeContext/compile(_:merges:)``. Not where times of launches are asked for.
    public var merges = false
    /// Variants to use instead of the first that fits, by family.
    public var variants: [String: String] = [:]
    /// Bytes behind each value that no kernel may touch; with them no two values share bytes.
    public var guardBytes = 0
    /// Stages to print on standard error: `trace`, the name of a pass, `plan`, `launches`, or `all`.
    public var dumps: Set<String> = []
    /// 1 prints a line a launch at every run, with its time.
    public var debugLevel = 0
    /// Whether the device's queue keeps times, for ``Executable/timeline(runs:)``. It costs a little on every launch.
    public var profiles = false

    /// What is wrong with a variable of the environment.
    private(set) var fault: String?

    public init() {}

    /// As `KEEL_FUSE`, `KEEL_PASSES`, `KEEL_OMIT`, `KEEL_MERGE`, `KEEL_DUMP` and `KEEL_DEBUG` say. What they cannot
    /// say is an error of every executable.
    public init(environment: [String: String]) {
      func isOn(_ variable: String) -> Bool {
        let text = environment[variable] ?? ""
        if !["", "0", "1"].contains(text) { fault = "[executable] \(variable) expects 0 or 1, got \(text)" }
        return text != "0"
      }
      fuses = isOn("KEEL_FUSE")
      merges = isOn("KEEL_MERGE") && fuses
      func names(_ variable: String) -> Set<String> {
        Set((environment[variable] ?? "").split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) })
      }
      addedPasses = names("KEEL_PASSES")
      omittedPasses = Pipeline.unproven.subtracting(addedPasses).union(names("KEEL_OMIT"))
      dumps = names("KEEL_DUMP")
      do { debugLevel = try ComputeContext.debugLevel(environment) } catch { fault = "\(error)" }
    }

    public static var environment: Options { Options(environment: ProcessInfo.processInfo.environment) }
  }

  /// The graph that runs, after all passes.
  public let graph: Graph
  public let plan: MemoryPlan
  public let launches: [CompiledLaunch]
  /// The variants that were chosen, in the order of the nodes.
  public let variants: [String]

  let context: ComputeContext
  private let options: Options
  /// Scratch memory of the nodes that want some.
  private let workspaceBytes: [Int: Int]
  private let variables: VariableStore
  private let constants: Buffer
  let gradients: Buffer
  let activations: Buffer
  /// What ``launches`` was compiled from.
  private let boundLaunches: [BoundLaunch]
  /// The variables and buffers that the launches are bound to, current as of a generation of the store.
  private let bound: [(name: String, buffer: Buffer)]
  private var generation: Int
  private var isStale = false

  /// Compiles a graph. Throws the graph's error, a compiler's log, or what the device says.
  ///
  /// - Parameters:
  ///   - variables: holds every input that the graph names.
  ///   - twin: an executable of the same graph on other variables; gradients and activations are where its are, so that
  ///     the two take no more memory than one. Results of either are gone when the other has run.
  public init(
    _ source: Graph, variables: VariableStore, options: Options = .environment, twin: Executable? = nil
  ) throws {
    self.variables = variables
    self.options = options
    context = variables.context
    let profile = context.profile
    try Self.check(options)
    func dump(_ stage: String, _ text: @autoclosure () -> String) {
      guard options.dumps.contains(stage) || options.dumps.contains("all") else { return }
      FileHandle.standardError.write(Data("// \(stage)\n\(text())\n".utf8))
    }

    dump("trace", source.description)
    let pipeline = (options.fuses ? Pipeline.standard : .unfused).omitting(options.omittedPasses)
    let graph = try pipeline.run(source) { pass, graph in dump(pass, graph.description) }
    try Self.check(graph, variables, profile)

    let lowering = Lowering(
      graph: graph, profile: profile, forced: options.variants, joinsParameters: options.guardBytes == 0)
    let lowered = try graph.nodes.map { node in
      do { return try lowering.lower(node) } catch { throw ExecutableError(node, error) }
    }
    let workspaces = lowered.enumerated().compactMap { index, lowered in lowered.map { (index, $0.workspaceBytes) } }
    workspaceBytes = Dictionary(uniqueKeysWithValues: workspaces)
    let plan = MemoryPlan(
      graph, alignment: profile.alignment, guardBytes: options.guardBytes,
      workspaceBytes: workspaceBytes, parameters: variables.parameterLayout,
      sharesBytes: options.guardBytes == 0)
    dump("plan", plan.report(graph))

    // With guards, memory starts as NaN: a kernel that reads what nobody wrote shows.
    let fill: [UInt8] = options.guardBytes > 0 ? [0xFF] : [0]
    constants = try context.buffer(byteCount: plan.constantByteCount, filledWith: fill)
    // Padding between gradients stays 0, so that a flat optimizer launch leaves the parameters' padding alone; with
    // guards no launch is flat.
    let twin = twin.flatMap {
      $0.variables === variables && $0.plan.activationByteCount == plan.activationByteCount ? $0 : nil
    }
    gradients =
      try twin?.gradients ?? context.buffer(byteCount: variables.parameterLayout.byteCount, filledWith: fill)
    activations = try twin?.activations ?? context.buffer(byteCount: plan.activationByteCount, filledWith: fill)
    let arenas = Arenas(
      variables: variables, constants: constants, gradients: gradients, activations: activations)

    // Constants are written once, here.
    for (index, node) in graph.nodes.enumerated() {
      guard case .constant(let constant) = node.operation else { continue }
      let values = constant.splat.map { [Double](repeating: $0, count: constant.type.count) } ?? constant.values
      let tensor = try HostTensor(constant.type, values: values)
      let buffer = try arenas.buffer(Value(node: index), graph, plan)
      try context.queue.write(buffer, bytes: tensor.bytes)
    }

    // Who asks for times of launches wants them of each; KEEL_DEBUG of those that would be in a merged one.
    let merges = options.merges && !options.profiles && options.debugLevel == 0
    let binding = options.merges && !options.profiles ? context.merging : context
    var launches: [BoundLaunch] = []
    for (index, node) in graph.nodes.enumerated() {
      guard let lowered = lowered[index] else { continue }
      var placed = PlacedNode(
        outputs: try node.types.indices.map { try arenas.buffer(Value(node: index, output: $0), graph, plan) },
        inputs: try node.inputs.map { try arenas.buffer($0, graph, plan) },
        workspace: try plan.workspaces[index].map {
          try arenas.activations.slice(byteOffset: $0, byteCount: lowered.workspaceBytes)
        })
      for pair in lowered.overwrites where placed.outputs[pair.output] !== placed.inputs[pair.operand] {
        let copied = PlacedNode(outputs: [placed.outputs[pair.output]], inputs: [placed.inputs[pair.operand]])
        launches += try lowering.copy(node.types[pair.output]).launches(copied, binding)
        placed.inputs[pair.operand] = placed.outputs[pair.output]
      }
      do {
        launches += try lowered.launches(placed, binding, path: node.path)
      } catch { throw ExecutableError(node, error) }
    }
    for copy in plan.copies {
      let placed = PlacedNode(
        outputs: [try variables.buffer(copy.variable)], inputs: [try arenas.buffer(copy.value, graph, plan)])
      launches += try lowering.copy(graph.type(of: copy.value)).launches(placed, binding)
    }
    if options.debugLevel > 0, options.merges, !options.profiles {
      let choice = try context.mergedLaunches(launches).joined(separator: "; ")
      FileHandle.standardError.write(Data("[executable] \(graph.name): launches by themselves; else \(choice)\n".utf8))
    }
    boundLaunches = launches
    let compiled = try context.compile(launches, merges: merges)
    dump("launches", compiled.map(\.listing).joined(separator: "\n"))

    bound = try graph.inputs.map { ($0.input.label, try variables.buffer($0.input.label)) }
    generation = variables.generation
    self.graph = graph
    self.plan = plan
    self.launches = compiled
    variants = lowered.compactMap { $0?.variant }
  }

  /// Enqueues every launch, in order, `times` times over. Does not wait for the device.
  ///
  /// Runs of a graph whose launches were merged into one are one launch.
  ///
  /// - Throws: what the device says, or that a variable of the graph was declared anew with another type: the launches
  ///   are bound to what it was.
  public func run(times: Int = 1) throws {
    guard !isStale, variables.generation == generation || boundVariablesAreCurrent() else {
      throw ExecutableError("[executable] \(graph.name): a variable was declared anew since it was compiled")
    }
    if options.debugLevel > 0 {
      for _ in 0..<max(times, 0) {
        for time in try profile() { FileHandle.standardError.write(Data("\(time)\n".utf8)) }
      }
    } else if times > 0, launches.count == 1 {
      try launches[0].enqueue(on: context.queue, runs: times)
    } else {
      for _ in 0..<max(times, 0) { for launch in launches { try launch.enqueue(on: context.queue) } }
    }
  }

  /// Whether all of its launches could be merged with others, as ``Options/merges`` asks for.
  func isMergeable() throws -> Bool { try context.areMergeable(boundLaunches) }

  private func boundVariablesAreCurrent() -> Bool {
    generation = variables.generation
    isStale = isStale || bound.contains { (try? variables.buffer($0.name)) !== $0.buffer }
    return !isStale
  }

  /// Waits for the device and copies an output back.
  public func output(_ name: String) throws -> HostTensor {
    guard let output = graph.outputs.first(where: { $0.name == name }) else {
      throw ExecutableError(
        "[executable] no output \(name); there are \(graph.outputs.map(\.name).joined(separator: ", "))")
    }
    let arenas = Arenas(variables: variables, constants: constants, gradients: gradients, activations: activations)
    let type = graph.type(of: output.value)
    let buffer = try arenas.buffer(output.value, graph, plan)
    return try HostTensor(type, bytes: try context.queue.read(buffer, byteCount: type.byteCount))
  }

  /// Places where something was written behind a value or a workspace. Always empty without guards.
  public func brokenGuards() throws -> [String] {
    guard options.guardBytes > 0 else { return [] }
    let (inActivations, inConstants) = (try context.queue.read(activations), try context.queue.read(constants))
    let inGradients = try context.queue.read(gradients)
    var broken: [String] = []
    func check(_ bytes: [UInt8], _ end: Int, _ label: String) {
      if bytes[end..<end + options.guardBytes].contains(where: { $0 != 0xFF }) { broken.append(label) }
    }
    for (value, location) in plan.locations {
      let byteCount = graph.type(of: value).byteCount
      let label = "\(graph.nodes[value.node].operation.rules.name) result \(value.output)"
      switch location {
      case .activation(let offset): check(inActivations, offset + byteCount, label)
      case .constant(let offset): check(inConstants, offset + byteCount, label)
      case .gradient(let offset): check(inGradients, offset + byteCount, label)
      case .variable: break
      }
    }
    for (node, offset) in plan.workspaces {
      let label = "\(graph.nodes[node].operation.rules.name) workspace"
      check(inActivations, offset + (workspaceBytes[node] ?? 0), label)
    }
    return broken.sorted() + (try variables.brokenGuards())
  }

  /// What ``Options/dumps`` may name, in the order in which they are printed.
  private static let stages: [String] = {
    let names =
      ["trace"] + (Pipeline.unfused.passes + Pipeline.standard.passes).map(\.name) + ["plan", "launches", "all"]
    return names.enumerated().filter { names.firstIndex(of: $0.element) == $0.offset }.map(\.element)
  }()

  /// Throws where an option names what does not exist, and would have no effect.
  private static func check(_ options: Options) throws {
    if let fault = options.fault { throw ExecutableError(fault) }
    if let stage = options.dumps.subtracting(stages).min() {
      throw ExecutableError(
        "[executable] KEEL_DUMP expects stages out of \(stages.joined(separator: ", ")), got \(stage)")
    }
    if let pass = options.addedPasses.subtracting(Pipeline.unproven).min() {
      throw ExecutableError(
        "[executable] KEEL_PASSES expects passes out of \(Pipeline.unproven.sorted().joined(separator: ", ")), got \(pass)"
      )
    }
    if let pass = options.omittedPasses.subtracting(Pipeline.optional).min() {
      throw ExecutableError(
        "[executable] KEEL_OMIT expects passes out of \(Pipeline.optional.sorted().joined(separator: ", ")), got \(pass)"
      )
    }
    let families = KernelFamilies.variants.keys
    if let family = Set(options.variants.keys).subtracting(families).min() {
      throw ExecutableError(
        "[executable] variants are of families out of \(families.sorted().joined(separator: ", ")), got \(family)")
    }
  }

  /// Throws unless every input is a variable of the right type and the device has the element types.
  private static func check(_ graph: Graph, _ variables: VariableStore, _ profile: DeviceProfile) throws {
    for (_, input, type) in graph.inputs where variables.type(of: input.label) != type {
      let known = variables.type(of: input.label).map { "\($0)" } ?? "no such variable"
      throw ExecutableError("[executable] \(input.label) expects \(type), got \(known)")
    }
    for node in graph.nodes {
      for type in node.types where type.count == 0 {
        throw ExecutableError("[\(node.operation.rules.name)] \(node.path): expects tensors with elements, got \(type)")
      }
    }
    if !profile.hasFP64, let node = graph.nodes.first(where: { $0.types.contains { $0.dtype == .float64 } }) {
      throw ExecutableError(
        "[\(node.operation.rules.name)] \(node.path): expects a device with double precision, \(profile.name) has none")
    }
  }
}

/// The buffers that locations of a plan point into.
private struct Arenas {
  let variables: VariableStore
  let constants: Buffer
  let gradients: Buffer
  let activations: Buffer

  func buffer(_ value: Value, _ graph: Graph, _ plan: MemoryPlan) throws -> Buffer {
    let byteCount = graph.type(of: value).byteCount
    switch plan.locations[value] {
    case .variable(let name): return try variables.buffer(name)
    case .constant(let offset): return try constants.slice(byteOffset: offset, byteCount: byteCount)
    case .gradient(let offset): return try gradients.slice(byteOffset: offset, byteCount: byteCount)
    case .activation(let offset): return try activations.slice(byteOffset: offset, byteCount: byteCount)
    case nil: throw ExecutableError("[plan] %\(value.node) has no place")
    }
  }
}

/// What stood in the way of compiling a graph.
public struct ExecutableError: Error, CustomStringConvertible {
  public let description: String
  /// What a node's kernels said.
  public let underlying: (any Error)?

  init(_ description: String) {
    self.description = description
    underlying = nil
  }

  init(_ node: Node, _ error: any Error) {
    underlying = error
    description = "[\(node.operation.rules.name)] " + (node.path.isEmpty ? "" : "\(node.path): ") + "\(error)"
  }
}
