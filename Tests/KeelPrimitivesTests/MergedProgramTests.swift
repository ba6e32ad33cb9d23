import KeelCL
import KeelCore
import Testing

@testable import KeelPrimitives

@Suite struct MergedProgramTests {
  private static let side = 96

  /// `count` products, each of the one before with B, and beside each a sum of its rows.
  private func chain(_ count: Int, _ context: ComputeContext) throws -> (launches: [BoundLaunch], results: [Buffer]) {
    let side = Self.side
    let values = (0..<side * side).map { Float(($0 * 31 % 97) - 48) / 600 }
    func buffer(_ count: Int) throws -> Buffer { try context.buffer(byteCount: count * 4, filledWith: [0xFF]) }
    let b = try buffer(side * side)
    try context.queue.write(b, values)
    var launches: [BoundLaunch] = []
    var results = [b]
    func add<Problem: KernelProblem>(_ problem: Problem, _ output: Buffer, _ inputs: [Buffer]) throws {
      let operands = Operands(outputs: [output], inputs: inputs)
      for var launch in try problem.variant(on: context.profile).bind(problem, operands, context) {
        launch.footprint = BoundLaunch.Footprint(reads: inputs, writes: [output])
        launches.append(launch)
      }
    }
    var last = b
    for _ in 0..<count {
      let (product, sums) = (try buffer(side * side), try buffer(side))
      try add(GemmProblem(m: side, n: side, k: side), product, [last, b])
      try add(ReductionProblem(.sum, outer: side, reduced: side, inner: 1), sums, [product])
      results += [product, sums]
      last = product
    }
    return (launches, results)
  }

  private func bits(_ results: [Buffer], _ context: ComputeContext) throws -> [[UInt8]] {
    try results.map { try context.queue.read($0) }
  }

  /// A compiler's patience: a list of launches with more kernels than that is cut, and stays in order.
  @Test func listOfManyKernelsIsCut() {
    let count = 2 * MergedProgram.mostFunctions + 3
    let launches = (0..<count).map { index in
      BoundLaunch(
        label: "\(index)", kernel: "k\(index)", spec: ProgramSpec("record.cl", .float32), arguments: [], global: [1],
        local: nil, flops: 0, bytes: 0)
    }
    let parts = MergedProgram.split([LaunchSchedule.Phase(branches: [launches])])
    let labels = parts.map { $0.flatMap { $0.branches.joined().map(\.label) } }
    #expect(labels.map(\.count) == [MergedProgram.mostFunctions, MergedProgram.mostFunctions, 3])
    #expect(Array(labels.joined()) == launches.map(\.label))
  }

  /// Workers without patience leave at the first phase that another is still at work on, launch after launch; those who
  /// stay do all of the work, and the next launch begins with all of them.
  @Test func whoLeavesEarlyLosesNothing() throws {
    for device in try Device.all() where device.kind == .cpu {
      var profile = DeviceProfile(device)
      profile.computeUnits = 5
      profile.sharesShortWork = true
      let context = try ComputeContext(device, profile: profile)
      let (launches, results) = try chain(20, context)
      for launch in try context.compile(launches, merges: false) { try launch.enqueue(on: context.queue) }
      let expected = try bits(results, context)
      #expect(Set(expected).count > 30)

      let merged = try context.compile(launches, merges: true) { _ in 0 }
      #expect(merged.count == 1 && merged[0].global == [5])
      for runs in [1, 3, 2, 1] {
        for result in results.dropFirst() { try context.queue.fill(result, pattern: [0xFF]) }
        try merged[0].enqueue(on: context.queue, runs: runs)
        #expect(try bits(results, context) == expected)
      }
    }
  }
}
