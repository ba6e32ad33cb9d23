import KeelCL
import KeelCheck
import KeelCore
import KeelGraph
import KeelPrimitives
import Testing

@testable import KeelRuntime

/// Launches that are one on CPU devices: in which order they run, by how many workers, how often.
@Suite @MainActor struct MergedLaunchTests {
  private static var cpus: [ComputeContext] { Devices.contexts.filter { $0.profile.isCPU } }

  /// The same device with as many workers as a merged launch would have on one of so many cores.
  private func context(_ device: Device, units: Int) throws -> ComputeContext {
    var profile = DeviceProfile(device)
    profile.computeUnits = units
    return try ComputeContext(device, profile: profile)
  }

  private func executable(
    _ graph: Graph, _ context: ComputeContext, merges: Bool = true, variants: [String: String] = [:],
    guardBytes: Int = 0
  ) throws -> (Executable, VariableStore) {
    let store = try VariableStore.filled(for: graph, context, guardBytes: guardBytes)
    var options = Executable.Options()
    options.merges = merges
    options.variants = variants
    options.guardBytes = guardBytes
    return (try Executable(graph, variables: store, options: options), store)
  }

  /// A chain, and beside it what could run in any order; updates read what the last run wrote.
  private func network(rows: Int = 64, _ dtype: DType = .float32) throws -> Graph {
    let builder = GraphBuilder()
    let x = builder.input("x", TensorType([rows, 96], dtype))
    let w = builder.input("w", TensorType([96, 80], dtype))
    let product = x.matMul(w)
    builder.output("sum", x.sum(axes: [1]))
    builder.output("product", product)
    builder.output("mean", x.sum(axes: [0, 1]) * (1 / Double(rows)))
    builder.output("turned", x.reshape([rows, 12, 8]).transpose([2, 0, 1]))
    builder.output("after", product.transpose([1, 0]).matMul(product))
    builder.update(w, with: (w * 0.5 + x.transpose([1, 0]).matMul(product) * 1e-3).elementwise(.tanh))
    return try builder.graph()
  }

  /// The labels of the launches in the first, merged one, a list a phase.
  private func phases(_ executable: Executable) throws -> [[String]] {
    try #require(executable.launches.first).parts.reduce(into: []) { phases, line in
      if line.hasPrefix("phase") {
        phases.append([])
      } else {
        let words = line.split(separator: " ", omittingEmptySubsequences: true)
        phases[phases.count - 1].append(words.drop { $0 == "then" }.joined(separator: " "))
      }
    }
  }

  @Test(arguments: [1, 2, 3, 16]) func anyNumberOfWorkersGivesTheSameBits(_ units: Int) throws {
    let graph = try network()
    for cpu in Self.cpus {
      let (single, singleStore) = try executable(graph, cpu, merges: false)
      let (merged, store) = try executable(graph, context(cpu.device, units: units))
      #expect(merged.launches.count == 1 && merged.launches[0].global[0] <= units)
      if units > 1 { #expect(merged.launches[0].global[0] > 1) }
      // More workers than the device has threads, and none of them waits for one that has not begun.
      for _ in 0..<3 { try single.run() }
      for _ in 0..<3 { try merged.run() }
      for output in graph.outputs { #expect(try merged.output(output.name) == single.output(output.name)) }
      #expect(try store.read("w") == singleStore.read("w"))
    }
  }

  /// In double precision, scalars as well.
  @Test func doublesAreMerged() throws {
    let graph = try network(.float64)
    for cpu in Self.cpus where cpu.profile.hasFP64 {
      let (single, singleStore) = try executable(graph, cpu, merges: false)
      let (merged, store) = try executable(graph, context(cpu.device, units: 2))
      #expect(merged.launches.count == 1)
      try single.run(times: 3)
      try merged.run(times: 3)
      for output in graph.outputs { #expect(try merged.output(output.name) == single.output(output.name)) }
      #expect(try store.read("w") == singleStore.read("w"))
    }
  }

  /// Stored in another type than is computed in, and read by kernels of several families.
  @Test(arguments: [DType.float16, .bfloat16]) func shortTypesAreMerged(_ dtype: DType) throws {
    let builder = GraphBuilder()
    let x = builder.input("x", TensorType([300, 48], dtype))
    builder.output("wide", (x.cast(to: .float32) * 2).elementwise(.tanh))
    builder.output("narrow", x.elementwise(.relu).cast(to: .float32).sum(axes: [1]).cast(to: dtype))
    builder.output("rows", x.sum(axes: [1]))
    builder.output("columns", x.sum(axes: [0]))
    builder.output("turned", x.transpose([1, 0]))
    let graph = try builder.graph()
    for cpu in Self.cpus {
      let (single, _) = try executable(graph, cpu, merges: false)
      let (merged, _) = try executable(graph, context(cpu.device, units: 2))
      #expect(merged.launches.count == 1 && single.launches.count > 3)
      try single.run()
      try merged.run()
      for output in graph.outputs { #expect(try merged.output(output.name) == single.output(output.name)) }
    }
  }

  /// Sizes are in the table, not in the text, and so are the numbers of an elementwise function.
  @Test func batchSizesShareAProgram() throws {
    for cpu in Self.cpus {
      let context = try context(cpu.device, units: 2)
      func programs() -> Int { context.programs.compiledCount + context.programs.loadedCount }
      _ = try executable(network(rows: 64), context)
      let count = programs()
      #expect(count > 0)
      _ = try executable(network(rows: 29), context)
      #expect(programs() == count)
    }
  }

  /// Many runs in one launch, and launches after each other, are as many runs.
  @Test func runsOfALaunchFollowEachOther() throws {
    let graph = try network()
    for cpu in Self.cpus {
      let (single, singleStore) = try executable(graph, cpu, merges: false)
      let (merged, store) = try executable(graph, context(cpu.device, units: 2))
      for times in [1, 5, 0, 64, 2, 1] { try merged.run(times: times) }
      try single.run(times: 73)
      #expect(try store.read("w") == singleStore.read("w"))
      for output in graph.outputs { #expect(try merged.output(output.name) == single.output(output.name)) }
    }
  }

  /// What can run in any order is in one phase, of one work-item a group or of one an element; nothing is lost, and what
  /// depends on another comes later.
  @Test func independentLaunchesShareAPhase() throws {
    let graph = try network()
    for cpu in Self.cpus {
      for variants in [[:], ["transpose": "naive"]] {
        let (single, _) = try executable(graph, cpu, merges: false, variants: variants)
        let (merged, _) = try executable(graph, context(cpu.device, units: 2), variants: variants)
        let phases = try phases(merged)
        #expect(phases.count > 1)
        // Sizes are of how a launch is shared out, not of what it does.
        #expect(phases.joined().sorted() == single.launches.map(\.label).sorted())
        let place = { (text: String) in phases.firstIndex { $0.contains { $0.contains(text) } } ?? -1 }
        #expect(phases[place("64×80×96")].count > 1, "\(phases)")
        #expect(place("64×80×96") < place("80×80×64"))
      }
    }
  }

  /// Launches that wait for each other and are short are one tile.
  @Test func shortLaunchesFollowEachOtherInOneTile() throws {
    for cpu in Self.cpus {
      let builder = GraphBuilder()
      let (x, large) = (builder.input("x", TensorType([8, 8])), builder.input("large", TensorType([512, 512])))
      builder.output("small", x.transpose([1, 0]).matMul(x).sum(axes: [0]))
      builder.output("large", large.matMul(builder.input("w", TensorType([512, 512]))))
      let graph = try builder.graph()
      // With guards no two values share bytes, so that nothing waits for another's memory.
      let (merged, _) = try executable(graph, context(cpu.device, units: 2), guardBytes: 256)
      let (single, _) = try executable(graph, cpu, merges: false)
      let first = try phases(merged)[0]
      #expect(first.contains { $0.contains("512") } && first.count { !$0.contains("512") } > 1, "\(first)")
      #expect(merged.launches[0].parts.contains { $0.contains("then") })
      for executable in [merged, single] { try executable.run() }
      for output in graph.outputs { #expect(try merged.output(output.name) == single.output(output.name)) }
    }
  }

  /// A kernel takes so many arguments: what has more buffers is several launches.
  @Test func manyBuffersAreSeveralLaunches() throws {
    for cpu in Self.cpus {
      let builder = GraphBuilder()
      for index in 0..<130 {
        let x = builder.input("x\(index)", TensorType([5 + index]))
        builder.update(x, with: (x * 2 + 1).sum(axes: [0], keepingDimensions: true) * x)
      }
      let graph = try builder.graph()
      let (merged, store) = try executable(graph, context(cpu.device, units: 2))
      let (single, singleStore) = try executable(graph, cpu, merges: false)
      #expect((2...9).contains(merged.launches.count), "\(merged.launches.map(\.label))")
      try merged.run(times: 2)
      try single.run(times: 2)
      for index in 0..<130 { #expect(try store.read("x\(index)") == singleStore.read("x\(index)")) }
    }
  }

  /// A kernel with local memory and barriers keeps a launch of its own among merged ones.
  @Test func whatCannotBeMergedStaysALaunch() throws {
    let graph = try network()
    for cpu in Self.cpus {
      let variants = ["gemm": "blocks64"]
      let (single, _) = try executable(graph, cpu, merges: false, variants: variants)
      let (merged, _) = try executable(graph, context(cpu.device, units: 2), variants: variants)
      #expect(merged.launches.count { $0.label.contains("gemm_blocks") && $0.parts.isEmpty } == 3)
      for executable in [merged, single] { try executable.run() }
      for output in graph.outputs { #expect(try merged.output(output.name) == single.output(output.name)) }
    }
  }
}
