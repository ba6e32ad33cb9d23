import Foundation
import KeelCL
import KeelPrimitives
import Testing

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

  @Test func keyRoundsSizesUp() {
    let key = GemmProblem(m: 784, n: 32, k: 33, transposeA: true).key
    #expect(key == ProblemKey(family: "gemm", bucket: "f32 1024×32×64 TN"))
    #expect(GemmProblem(m: 513, n: 17, k: 64, transposeA: true).key == key)
    #expect(GemmProblem(m: 784, n: 32, k: 33).key != key)
    #expect(GemmProblem(m: 784, n: 32, k: 33, transposeA: true, dtype: .float64).key != key)
    #expect(GemmProblem(m: 1, n: 2, k: 3).key.bucket == "f32 1×2×4 NN")
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
    // They stay for the day when they hold again, and are replaced by their like only.
    try place.database.add([try entry(problem, "packed", device)])
    #expect(place.database.read().entries.map(\.variant) == ["naive", "naive", "packed"])
    try place.database.add([try entry(problem, "naive", device)])
    #expect(place.database.read().entries.map(\.variant) == ["naive", "naive", "naive"])
  }

  @Test func damagedLinesAreLeftOut() throws {
    let place = Place()
    defer { place.remove() }
    let device = try Device.best()
    let problem = GemmProblem(m: 24, n: 24, k: 24)
    try place.database.add([try entry(problem, "naive", device)])
    let file = try #require(place.database.file)
    let sound = try Data(contentsOf: file)
    let unknown = String(decoding: sound, as: UTF8.self).replacingOccurrences(of: "\"naive\"", with: "\"nosuch\"")
    try (Data([0xFF, 0xFE, 10]) + sound.prefix(40) + Data("\n{}\n\n".utf8) + Data(unknown.utf8) + sound).write(to: file)
    let (entries, faults) = place.database.read()
    #expect(entries == [try entry(problem, "naive", device)])
    #expect(faults.count == 4)
    #expect(faults.map { $0.contains("variants.jsonl:") }.allSatisfy { $0 })
    #expect(faults.last?.contains("nosuch") == true, "\(faults)")
    #expect(try ComputeContext(device, environment: place.environment).profile.tuned[problem.key] == "naive")
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
