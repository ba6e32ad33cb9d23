import Foundation
import KeelCL
import KeelKernels
import Testing

@testable import KeelPrimitives

@Suite struct TuningDatabaseTests {
  /// A database in a folder of its own.
  private struct Place {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("keel-tune-\(UUID().uuidString)")
    var environment: [String: String] { ["KEEL_TUNE_DIR": folder.path, "KEEL_CACHE_DIR": ""] }
    var database: TuningDatabase { TuningDatabase(environment: environment) }

    func remove() { try? FileManager.default.removeItem(at: folder) }
  }

  private func entry(
    _ problem: GemmProblem, _ variant: String, _ device: Device, kernels: String? = nil
  ) throws -> TuningDatabase.Entry {
    TuningDatabase.Entry(
      key: problem.key, variant: variant, against: "direct", ratio: 1.5, device: device,
      kernels: try kernels ?? TuningDatabase.kernels())
  }

  /// Sizes of launches are not in the kernels' texts.
  @Test func choicesAreOfAVersion() throws {
    let source = KernelSource(directory: nil)
    let own = try TuningDatabase.digest(of: source)
    #expect(own == (try TuningDatabase.kernels(environment: [:])) && own.count == 16)
    #expect(try TuningDatabase.digest(of: source, version: "0.0.0") != own)
  }

  @Test func keyRoundsSizesUp() {
    let key = GemmProblem(m: 784, n: 32, k: 33, transposeA: true).key
    #expect(key == ProblemKey(family: "gemm", bucket: "f32 1024×32×64 TN"))
    #expect(GemmProblem(m: 513, n: 17, k: 64, transposeA: true).key == key)
    #expect(GemmProblem(m: 784, n: 32, k: 33).key != key)
    #expect(GemmProblem(m: 784, n: 32, k: 33, transposeA: true, dtype: .float64).key != key)
    #expect(GemmProblem(m: 1, n: 2, k: 3).key.bucket == "f32 1×2×4 NN")
    // What has no power of two above it in an `Int` stays as it is.
    #expect(GemmProblem(m: 1 << 62, n: .max, k: 0).key.bucket == "f32 \(1 << 62)×\(Int.max)×1 NN")
  }

  /// Problems that differ in more than their sizes have keys of their own.
  @Test func keyTellsKindsApart() {
    func distinct(_ problems: [any KernelProblem]) -> Bool { Set(problems.map { $0.key }).count == problems.count }
    #expect(
      distinct([SoftmaxProblem.Kind.forward, .backward, .topOne].map { SoftmaxProblem($0, rows: 32, classes: 10) }))
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    #expect(distinct(orders.map { TransposeProblem([8, 8, 8], permutation: $0, dtype: .float32) }))
    #expect(
      distinct([
        OptimizerProblem(.sgd(momentum: 0, nesterov: false, weightDecay: 0), count: 64),
        OptimizerProblem(.adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0), count: 64),
      ]))
    #expect(distinct([ReductionProblem.Kind.sum, .max].map { ReductionProblem($0, outer: 4, reduced: 8, inner: 2) }))
  }

  /// The choice is used by a context of the environment that names the folder, for the whole bucket and nothing else.
  @Test func choiceIsConsulted() throws {
    let place = Place()
    defer { place.remove() }
    let device = try Device.best()
    let problem = GemmProblem(m: 24, n: 24, k: 24)
    let untuned = try problem.variant(on: ComputeContext(device, environment: place.environment).profile).name
    #expect(untuned != "naive")
    try place.database.add([try entry(problem, "naive", device)])

    let profile = try ComputeContext(device, environment: place.environment).profile
    #expect(try problem.variant(on: profile).name == "naive")
    #expect(try GemmProblem(m: 17, n: 32, k: 20).variant(on: profile).name == "naive")
    #expect(try GemmProblem(m: 16, n: 32, k: 20).variant(on: profile).name == untuned)
    // What is forced is forced.
    #expect(try problem.variant(on: profile, forced: ["gemm": untuned]).name == untuned)
    // A profile that a test makes knows of nothing tuned.
    #expect(try problem.variant(on: DeviceProfile(device)).name == untuned)
  }

  /// A variant that does not take the problem is passed over: a bucket's choice was made for one of its sizes.
  @Test func choiceMustTakeTheProblem() throws {
    let place = Place()
    defer { place.remove() }
    let device = try Device.best()
    let problem = ReductionProblem(.sum, outer: 1, reduced: 16000, inner: 1)
    try place.database.add([
      TuningDatabase.Entry(
        key: problem.key, variant: "slices", against: "rows", ratio: 2, device: device,
        kernels: try TuningDatabase.kernels())
    ])
    let profile = try ComputeContext(device, environment: place.environment).profile
    #expect(profile.tuned[problem.key] == "slices")
    #expect(try problem.variant(on: profile).name == problem.variant(on: DeviceProfile(device)).name)
  }

  @Test func otherKernelsOrDriverDoNotCount() throws {
    let place = Place()
    defer { place.remove() }
    let device = try Device.best()
    let problem = GemmProblem(m: 24, n: 24, k: 24)
    var other = try entry(problem, "naive", device)
    other.driver += " newer"
    try place.database.add([other, try entry(problem, "naive", device, kernels: "0123456789abcdef")])
    let profile = try ComputeContext(device, environment: place.environment).profile
    #expect(profile.tuned == TunedVariants())
    // As many compute units, too: a driver may be told to use fewer.
    var narrower = try entry(problem, "naive", device)
    narrower.device = narrower.device.replacingOccurrences(
      of: "\(device.computeUnits) units", with: "\(device.computeUnits + 1) units")
    #expect(narrower.holds(for: device, kernels: narrower.kernels) == false)
    // They stay for the day when they hold again, and are replaced by their like only.
    try place.database.add([try entry(problem, "packed", device)])
    #expect(place.database.read().entries.map(\.variant) == ["naive", "naive", "packed"])
    try place.database.add([try entry(problem, "naive", device)])
    #expect(place.database.read().entries.map(\.variant) == ["naive", "naive", "naive"])
    #expect(try ComputeContext(device, environment: place.environment).profile.tuned[problem.key] == "naive")
  }

  @Test func damagedLinesAreLeftOut() throws {
    let place = Place()
    defer { place.remove() }
    let device = try Device.best()
    let problem = GemmProblem(m: 24, n: 24, k: 24)
    try place.database.add([try entry(problem, "naive", device)])
    let file = try #require(place.database.file)
    let sound = try Data(contentsOf: file)
    try (Data([0xFF, 0xFE, 10]) + sound.prefix(40) + Data("\n{}\n\n".utf8) + sound).write(to: file)
    let (entries, faults) = place.database.read()
    #expect(entries == [try entry(problem, "naive", device)])
    #expect(faults.count == 3)
    #expect(faults.map { $0.contains("variants.jsonl:") }.allSatisfy { $0 })
    #expect(try ComputeContext(device, environment: place.environment).profile.tuned[problem.key] == "naive")
  }

  /// Another build's choice, such as one with kernels of its own, is neither used nor a fault nor lost.
  @Test func unknownVariantsStay() throws {
    let place = Place()
    defer { place.remove() }
    let device = try Device.best()
    let problem = GemmProblem(m: 24, n: 24, k: 24)
    let others = [
      try entry(problem, "nosuch", device), try entry(problem, "nosuch", device, kernels: "0123456789abcdef"),
    ]
    try place.database.add(others)
    let file = try #require(place.database.file)
    let lines = try Data(contentsOf: file)
    let choices = place.database.choices(for: device, kernels: try TuningDatabase.kernels())
    #expect(choices.entries.isEmpty && choices.faults.isEmpty)
    #expect(try ComputeContext(device, environment: place.environment).profile.tuned == TunedVariants())
    try place.database.add([try entry(GemmProblem(m: 1, n: 1, k: 1), "naive", device)])
    #expect(try Data(contentsOf: file).starts(with: lines))
    #expect(place.database.read().entries.prefix(2).elementsEqual(others))
  }

  /// Writers of the same file lose nothing of each other; what one left in the middle of a line costs that line only.
  @Test func writersAtOnce() throws {
    let place = Place()
    defer { place.remove() }
    let device = try Device.best()
    let kernels = try TuningDatabase.kernels()
    let (writers, count) = (4, 32)
    let entries = try (0..<writers * count).map { try entry(GemmProblem(m: 1, n: 1, k: 1), "w\($0)", device) }
      .enumerated().map { index, entry in
        var entry = entry
        entry.bucket = "\(index)"
        return entry
      }
    let database = place.database
    DispatchQueue.concurrentPerform(iterations: writers) { writer in
      for entry in entries[writer * count..<(writer + 1) * count] { try? database.add([entry]) }
    }
    let (read, faults) = database.read()
    #expect(faults.isEmpty && Set(read) == Set(entries) && read.count == entries.count)
    // Each writer's lines are in its order.
    for writer in 0..<writers {
      let own = entries[writer * count..<(writer + 1) * count]
      #expect(read.filter { own.contains($0) }.elementsEqual(own))
    }
    let file = try #require(database.file)
    try (Data(contentsOf: file) + Data("{\"bucket\"".utf8)).write(to: file)
    let last = try entry(GemmProblem(m: 1, n: 1, k: 1), "naive", device, kernels: kernels)
    try database.add([last])
    #expect(database.read().faults.count == 1 && database.read().entries == read + [last])
  }

  /// What cannot be read is not written over.
  @Test func unreadableFileIsAnError() throws {
    let place = Place()
    defer { place.remove() }
    let file = try #require(place.database.file)
    try FileManager.default.createDirectory(at: file, withIntermediateDirectories: true)
    #expect(place.database.read().faults.count == 1)
    let new = try entry(GemmProblem(m: 1, n: 1, k: 1), "naive", Device.best())
    #expect(throws: PrimitiveError.self) { try place.database.add([new]) }
  }

  @Test func clearedAndOff() throws {
    let place = Place()
    defer { place.remove() }
    try place.database.clear()
    try place.database.add([try entry(GemmProblem(m: 1, n: 1, k: 1), "naive", Device.best())])
    try place.database.clear()
    #expect(place.database.read().entries.isEmpty)
    let off = TuningDatabase(environment: ["KEEL_TUNE_DIR": "", "HOME": place.folder.path])
    #expect(off.file == nil && off.read().entries.isEmpty)
    #expect(throws: PrimitiveError.self) { try off.add([]) }
    let home = TuningDatabase(environment: ["HOME": "/home/a"])
    #expect(home.file?.path == "/home/a/.cache/keel/tune/variants.jsonl")
  }
}
