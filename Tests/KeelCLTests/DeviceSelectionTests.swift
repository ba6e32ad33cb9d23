import Testing

@testable import KeelCL

@Suite struct DeviceSelectionTests {
  typealias Candidate = Device.Candidate

  static let machine = [
    Candidate(
      platformIndex: 0, deviceIndex: 0, platform: "Portable Computing Language",
      platformVersion: "OpenCL 3.0 PoCL 3.1", device: "basic-haswell", kind: .cpu),
    Candidate(
      platformIndex: 0, deviceIndex: 1, platform: "Portable Computing Language",
      platformVersion: "OpenCL 3.0 PoCL 3.1", device: "pthread-haswell", kind: .cpu),
    Candidate(platformIndex: 2, deviceIndex: 0, platform: "Intel(R) OpenCL", device: "Xeon", kind: .cpu),
    Candidate(platformIndex: 2, deviceIndex: 1, platform: "Intel(R) OpenCL", device: "Arc A770", kind: .gpu),
    Candidate(platformIndex: 3, deviceIndex: 0, platform: "Xeon Phi Tools", device: "Card", kind: .accelerator),
  ]

  @Test(
    arguments: [
      (nil, 3),  // a GPU before everything
      ("0:1", 1), ("2:0", 2),  // indices are the platform's own, not positions
      ("PTHREAD", 1), ("basic", 0),  // device name, any case
      ("xeon", 2),  // the device's name before the platform's
      ("intel", 3),  // several of a platform: the GPU
      ("portable", 0), ("pocl", 0),  // platform name, platform version
      ("card", 4),
    ] as [(String?, Int)])
  func choice(request: String?, expected: Int) throws {
    #expect(try Device.choose(request, among: Self.machine) == expected)
  }

  @Test func aCPUDeviceComesBeforeAnAcceleratorAndAnUnusableGPU() throws {
    var machine = [Self.machine[4], Self.machine[3], Self.machine[2]]
    machine[1].isUsable = false
    #expect(try Device.choose(nil, among: machine) == 2)
    #expect(try Device.choose(nil, among: [Self.machine[4]]) == 0)
    // Asked for by name, the usable one of two wins.
    #expect(try Device.choose("intel", among: machine) == 2)
    #expect(try Device.choose("arc", among: machine) == 1)
  }

  @Test(arguments: ["nvidia", "1:0", "0:7", ":", "0:1:2", "-1:0"])
  func anUnknownRequestListsWhatIsThere(request: String) {
    let error = #expect(throws: DeviceSelectionError.self) { try Device.choose(request, among: Self.machine) }
    for candidate in Self.machine {
      #expect(
        error?.message.contains("\(candidate.platformIndex):\(candidate.deviceIndex)  \(candidate.device)") == true)
    }
  }

  @Test func noUsableDeviceSaysWhatToInstall() {
    var off = Self.machine[0]
    off.isUsable = false
    for machine in [[], [off]] {
      let error = #expect(throws: DeviceSelectionError.self) { try Device.choose(nil, among: machine) }
      #expect(error?.description.contains("apt-get install ocl-icd-opencl-dev pocl-opencl-icd") == true)
    }
  }

  @Test func aFailingPlatformDoesNotHideTheOthers() {
    let broken = CLError(call: "clGetDeviceIDs", subject: "B", code: -6)
    let survey = Survey(["A", "B", "C"].map { ($0, $0) }) { name throws(CLError) in
      if name == "B" { throw broken }
      return ["\(name)0", "\(name)1"]
    }
    #expect(survey.found == ["A0", "A1", "C0", "C1"])
    #expect(survey.failures.map(\.error) == [broken])
    #expect(survey.failures.map(\.description) == ["clGetDeviceIDs B: CL_OUT_OF_HOST_MEMORY (-6)"])
  }

  @Test(arguments: [
    (1024, 128), (32768, 4096), (8, 1),
    (0, 128), (12, 128), (24 * 8, 128), (1 << 30, 128),  // answers that make no sense
  ])
  func alignmentIsReportedInBits(bits: Int, bytes: Int) {
    #expect(Device.alignmentBytes(reportedBits: bits) == bytes)
  }

  @Test(arguments: [
    (1 << 20, 1 << 40, 1 << 20),  // told: taken as it is
    (0, 1 << 40, 1 << 38), (0, 1 << 28, 128 << 20), (0, 0, 128 << 20),
  ])
  func allocationLimitIsNeverNone(reported: Int, globalMemoryBytes: Int, limit: Int) {
    #expect(Device.allocationLimit(reported: reported, globalMemoryBytes: globalMemoryBytes) == limit)
  }

  @Test func versions() {
    #expect(Device.Version(parsing: "OpenCL 3.0 PoCL 3.1+debian")?.description == "3.0")
    #expect(Device.Version(parsing: "OpenCL C 1.2 pocl")?.description == "1.2")
    #expect(Device.Version(parsing: "PoCL") == nil)
    #expect(Device.Version(1, 2) < Device.Version(2, 0))
  }
}
