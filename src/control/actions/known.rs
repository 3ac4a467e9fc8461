//! The names of all actions that client libraries of the two families have, so that a call to one that is not offered is told apart from a
//! typing error.

use super::super::protocol::Version;

/// The family of an action that client libraries know, or that is ours alone.
pub fn family(action: &str) -> Option<Version> {
    let has = |names: &str| names.split_whitespace().any(|name| name == action);
    if has(OWN_LIVE) || has(LIVE) {
        Some(Version::Live)
    } else if has(OWN_VOD) || has(VOD) {
        Some(Version::Vod)
    } else {
        None
    }
}

/// Actions of ours that no client library has.
const OWN_LIVE: &str = "DescribeApplianceState DescribeApplianceSettings DescribeAppliancePasses DescribeCallbackDeliveries ReplayCallbackDeliveries";
const OWN_VOD: &str = "DescribeRecordingReceipt";

const LIVE: &str = "\
    AddCasterInputInfo AddCasterLayoutInfo AddCasterMarkPicInfo AddCasterMarkWordInfo AddCasterOutputInfo AddDelayLiveStream AddLiveDomain \
    AddLiveWatermark AuthenticateDomainOwner CancelCommonMixStream CloseSourceStream CopyCaster CopyLiveAvatarRoom CreateAuditImages \
    CreateAuditKeywordLib CreateAuditKeywords CreateAuditRule CreateAuditTemplate CreateCaster CreateCasterInputPushUrl CreateCasterPgm \
    CreateCasterPgmFromPvw CreateCasterPvw CreateCommonMixStream CreateLiveAvatarCloneFigure CreateLiveAvatarRoom CreateLiveAvatarScript \
    CreateLiveCallbackRule CreateLiveCallbackTemplate CreateLiveCloudEffect CreateLivePadRule CreateLivePadTemplate CreateLivePullStreamTask \
    CreateLiveRecord CreateLiveRecordRule CreateLiveRecordTemplate CreateLiveSmartEraseRule CreateLiveSmartEraseTemplate CreateLiveSnapshotRule \
    CreateLiveSnapshotTemplate CreateLiveStreamMonitor CreateLiveTimeShiftRule CreateLiveTimeShiftTemplate CreateLiveTranscodeRule \
    CreateLiveTranscodeTemplate CreateLiveWatermarkRule CreatePullStreamConfig CreateRecordTask CreateSceneVideoTask CreateScreenshotTask \
    CreateVideoRedrawTask DeleteAuditImages DeleteAuditKeywordLib DeleteAuditKeywords DeleteAuditRule DeleteAuditTemplate DeleteCaster \
    DeleteCasterInputInfo DeleteCasterLayoutInfo DeleteCasterMarkPicInfo DeleteCasterMarkWordInfo DeleteCasterOutputInfo \
    DeleteLiveAvatarCloneFigure DeleteLiveAvatarRoom DeleteLiveAvatarScript DeleteLiveCallbackRule DeleteLiveCallbackTemplate DeleteLiveDomain \
    DeleteLivePadRule DeleteLivePadTemplate DeleteLivePullStreamTask DeleteLiveRecord DeleteLiveRecordRule DeleteLiveRecordTemplate \
    DeleteLiveSmartEraseRule DeleteLiveSmartEraseTemplate DeleteLiveSnapshotRule DeleteLiveSnapshotTemplate DeleteLiveStreamMonitor \
    DeleteLiveTimeShiftRule DeleteLiveTimeShiftTemplate DeleteLiveTranscodeRule DeleteLiveTranscodeTemplate DeleteLiveWatermark \
    DeleteLiveWatermarkRule DeletePullStreamConfig DeleteRecordTask DeleteScreenshotTask DescribeAIGCTaskStatus DescribeAllStreamPlayInfoList \
    DescribeAreaBillBandwidthAndFluxList DescribeAuditGroupTag DescribeAuditImages DescribeAuditKeywordLibs DescribeAuditKeywords \
    DescribeAuditRules DescribeAuditTemplate DescribeAuditTemplates DescribeBackupStreamList DescribeBillBandwidthAndFluxList \
    DescribeCallbackRecordsList DescribeCaster DescribeCasterDisplayInfo DescribeCasterEmergencyStatus DescribeCasterInputInfos \
    DescribeCasterLayoutInfos DescribeCasterList DescribeCasterMarkPicInfos DescribeCasterMarkWordInfos DescribeCasterOutputInfos \
    DescribeCasterPlayUrl DescribeCasterTransitionTypes DescribeCasterUserStatus DescribeConcurrentRecordStreamNum DescribeDeliverBandwidthList \
    DescribeDeliverLogDownList DescribeGroupProIspPlayInfoList DescribeHttpStatusInfoList DescribeLiveAvatarBackgroundList \
    DescribeLiveAvatarCloneFigureList DescribeLiveAvatarImageList DescribeLiveAvatarRooms DescribeLiveAvatarScripts \
    DescribeLiveAvatarTemporaryScriptList DescribeLiveAvatarTimbreList DescribeLiveCallbackRules DescribeLiveCallbackTemplate \
    DescribeLiveCallbackTemplates DescribeLiveCert DescribeLiveCerts DescribeLiveCloudEffectConfig DescribeLiveCloudEffectList \
    DescribeLiveDelayInfoList DescribeLiveDomain DescribeLiveDomainCert DescribeLiveDomainCertBindings DescribeLiveDomainPlayInfoList \
    DescribeLiveDomainReferer DescribeLiveDomains DescribeLiveEnhanceInfoList DescribeLiveForbidStreamList DescribeLivePackageInfo \
    DescribeLivePadRules DescribeLivePadStreamList DescribeLivePadTemplate DescribeLivePadTemplates DescribeLivePlayAuthKey \
    DescribeLiveProhibitStreamList DescribeLivePullStreamTaskStatus DescribeLivePullStreamTasks DescribeLivePushAuthKey DescribeLiveRecordRules \
    DescribeLiveRecordTemplate DescribeLiveRecordTemplates DescribeLiveSmartEraseRules DescribeLiveSmartEraseTemplate \
    DescribeLiveSmartEraseTemplates DescribeLiveSnapshotRules DescribeLiveSnapshotTemplate DescribeLiveSnapshotTemplates \
    DescribeLiveStreamEventList DescribeLiveStreamMonitor DescribeLiveStreamMonitorList DescribeLiveStreamOnlineList \
    DescribeLiveStreamPublishedList DescribeLiveStreamPushInfoList DescribeLiveStreamState DescribeLiveTimeShiftBillInfoList \
    DescribeLiveTimeShiftRules DescribeLiveTimeShiftTemplates DescribeLiveTimeShiftWriteSizeInfoList DescribeLiveTranscodeDetailInfo \
    DescribeLiveTranscodeRules DescribeLiveTranscodeTemplate DescribeLiveTranscodeTemplates DescribeLiveTranscodeTotalInfo DescribeLiveWatermark \
    DescribeLiveWatermarkRules DescribeLiveWatermarks DescribeLiveXP2PDetailInfoList DescribeLogDownloadList DescribeMonitorReport \
    DescribeOriginStreamInfo DescribeOriginWhiteIpList DescribePlayErrorCodeDetailInfoList DescribePlayErrorCodeSumInfoList \
    DescribeProIspPlaySumInfoList DescribeProvinceIspPlayInfoList DescribePullStreamConfigs DescribePullTransformPushInfo \
    DescribePullTransformPushInfoList DescribePushBandwidthAndFluxList DescribeRecordTask DescribeSceneVideoTask DescribeScreenShotSheetNumList \
    DescribeScreenshotTask DescribeStreamDayPlayInfoList DescribeStreamPackageIngestStatistics DescribeStreamPackageOutputStatistics \
    DescribeStreamPackageRemuxStatistics DescribeStreamPlayInfoList DescribeStreamPushInfoList DescribeTimeShiftRecordDetail \
    DescribeTimeShiftStreamList DescribeTopClientIpSumInfoList DescribeTranscodeTaskNum DescribeUploadStreamNums DescribeVisitTopSumInfoList \
    DropLiveStream EnableLiveDomain EnableOptimalSwitching ForbidLiveDomain ForbidLiveStream GenerateLiveAvatarScriptBroadcast \
    InsertTaskTemporaryFiles ModifyAuditKeywordLib ModifyAuditTemplate ModifyCaster ModifyCasterInputInfo ModifyCasterLayoutInfo \
    ModifyCasterMarkPicInfo ModifyCasterMarkWordInfo ModifyCasterOutputInfo ModifyLiveAvatarRoom ModifyLiveAvatarScript \
    ModifyLiveCallbackTemplate ModifyLiveDomainCertBindings ModifyLiveDomainReferer ModifyLivePadTemplate ModifyLivePlayAuthKey \
    ModifyLivePlayDomain ModifyLivePullStreamTask ModifyLivePushAuthKey ModifyLiveRecordTemplate ModifyLiveSmartEraseTemplate \
    ModifyLiveSnapshotTemplate ModifyLiveStreamMonitor ModifyLiveTimeShiftTemplate ModifyLiveTranscodeTemplate ModifyOriginStreamInfo \
    ModifyPullStreamConfig ModifyPullStreamStatus ReleaseCaster RestartLivePullStreamTask ResumeDelayLiveStream ResumeLiveStream \
    SendLiveCloudEffect SendTemporaryScriptToAvatarRoom StartLiveAvatarRoom StartLivePadStream StartLiveStreamMonitor StopCasterPgm \
    StopCasterPvw StopLiveAvatarRoom StopLivePadStream StopLiveRecord StopLiveStreamMonitor StopRecordTask StopScreenshotTask SwitchBackupStream \
    SwitchCasterToEmergency UnBindLiveDomainCert UpdateLiveWatermark";

const VOD: &str = "\
    ApplyUpload AttachMediaSubtitles CloneCDNDomain CloneVoiceAsync CloneVoiceSync CommitUpload ComposeMedia ConfirmEvents \
    CreateAIAnalysisTemplate CreateAIRecognitionTemplate CreateAdaptiveDynamicStreamingTemplate CreateAigcAdvancedCustomElement \
    CreateAigcApiToken CreateAigcAudioClone CreateAigcAudioTask CreateAigcCustomElement CreateAigcCustomVoice CreateAigcHunyuan3DTask \
    CreateAigcImageTask CreateAigcQuota CreateAigcSubject CreateAigcVideoRedrawTask CreateAigcVideoTask CreateAnimatedGraphicsTemplate \
    CreateBlindWatermarkTemplate CreateCDNDomain CreateCLSLogset CreateCLSTopic CreateClass CreateComplexAdaptiveDynamicStreamingTask \
    CreateContentReviewTemplate CreateDomainVerifyRecord CreateEnhanceMediaTemplate CreateHeadTailTemplate CreateImageProcessingTemplate \
    CreateImageSpriteTemplate CreateJustInTimeTranscodeTemplate CreateKnowledgeBase CreateLLMComprehendTemplate CreateMPSTemplate \
    CreatePersonSample CreateProcedureTemplate CreateProcessImageAsyncTemplate CreateQualityInspectTemplate CreateRebuildMediaTemplate \
    CreateReviewTemplate CreateRoundPlay CreateSampleSnapshotTemplate CreateSceneAigcImageTask CreateSceneAigcVideoTask \
    CreateSnapshotByTimeOffsetTemplate CreateStorageRegion CreateSubAppId CreateSuperPlayerConfig CreateTranscodeTemplate CreateVodDomain \
    CreateWatermarkTemplate CreateWordSamples DeleteAIAnalysisTemplate DeleteAIRecognitionTemplate DeleteAdaptiveDynamicStreamingTemplate \
    DeleteAigcAdvancedCustomElement DeleteAigcApiToken DeleteAigcQuota DeleteAnimatedGraphicsTemplate DeleteBlindWatermarkTemplate \
    DeleteCDNDomain DeleteCLSTopic DeleteClass DeleteContentReviewTemplate DeleteEnhanceMediaTemplate DeleteHeadTailTemplate \
    DeleteImageProcessingTemplate DeleteImageSpriteTemplate DeleteJustInTimeTranscodeTemplate DeleteKnowledgeBase DeleteLLMComprehendTemplate \
    DeleteMPSTemplate DeleteMedia DeletePersonSample DeleteProcedureTemplate DeleteProcessImageAsyncTemplate DeleteQualityInspectTemplate \
    DeleteRebuildMediaTemplate DeleteReviewTemplate DeleteRoundPlay DeleteSampleSnapshotTemplate DeleteSnapshotByTimeOffsetTemplate \
    DeleteSuperPlayerConfig DeleteTranscodeTemplate DeleteVodDomain DeleteVoice DeleteWatermarkTemplate DeleteWordSamples \
    DescribeAIAnalysisTemplates DescribeAIRecognitionTemplates DescribeAdaptiveDynamicStreamingTemplates DescribeAigcAdvancedCustomElements \
    DescribeAigcApiTokens DescribeAigcFaceInfo DescribeAigcFaceInfoAsync DescribeAigcQuotas DescribeAigcUsageData DescribeAllClass \
    DescribeAnimatedGraphicsTemplates DescribeBlindWatermarkTemplates DescribeCDNDomains DescribeCDNStatDetails DescribeCDNUsageData \
    DescribeCLSLogsets DescribeCLSPushTargets DescribeCLSTopics DescribeCdnLogs DescribeClientUploadAccelerationUsageData \
    DescribeContentReviewTemplates DescribeCurrentPlaylist DescribeDailyMediaPlayStat DescribeDailyMostPlayedStat DescribeDailyPlayStatFileList \
    DescribeDefaultDistributionConfig DescribeDrmDataKey DescribeDrmKeyProviderInfo DescribeEnhanceMediaTemplates DescribeEventConfig \
    DescribeEventsState DescribeFileAttributes DescribeHeadTailTemplates DescribeImageProcessingTemplates DescribeImageReviewUsageData \
    DescribeImageSpriteTemplates DescribeJustInTimeTranscodeTemplates DescribeKnowledgeBases DescribeLLMComprehendTemplates \
    DescribeLicenseUsageData DescribeMPSTemplates DescribeMediaInfos DescribeMediaPlayStatDetails DescribeMediaProcessUsageData \
    DescribePersonSamples DescribePrepaidProducts DescribeProcedureTemplates DescribeProcessImageAsyncTemplates DescribeQualityInspectTemplates \
    DescribeRebuildMediaTemplates DescribeReviewDetails DescribeReviewTemplates DescribeRoundPlays DescribeSampleSnapshotTemplates \
    DescribeSnapshotByTimeOffsetTemplates DescribeStorageData DescribeStorageDetails DescribeStorageRegions DescribeSubAppIds \
    DescribeSuperPlayerConfigs DescribeTaskDetail DescribeTasks DescribeTranscodeTemplates DescribeVodDomains DescribeVoices \
    DescribeWatermarkTemplates DescribeWordSamples DesignVoiceAsync EditMedia EnhanceMediaByTemplate EnhanceMediaQuality ExecuteFunction \
    ExtractBlindWatermark ExtractCopyRightWatermark ExtractTraceWatermark FastEditMedia ForbidMediaDistribution HandleCurrentPlaylist \
    ImportMediaKnowledge InspectMediaQuality ListFiles LiveRealTimeClip ManageTask ModifyAIAnalysisTemplate ModifyAIRecognitionTemplate \
    ModifyAdaptiveDynamicStreamingTemplate ModifyAigcQuota ModifyAnimatedGraphicsTemplate ModifyBlindWatermarkTemplate ModifyCDNDomainConfig \
    ModifyClass ModifyContentReviewTemplate ModifyDefaultDistributionConfig ModifyDefaultStorageRegion ModifyEnhanceMediaTemplate \
    ModifyEventConfig ModifyHeadTailTemplate ModifyImageSpriteTemplate ModifyJustInTimeTranscodeTemplate ModifyKnowledgeBase \
    ModifyLLMComprehendTemplate ModifyMPSTemplate ModifyMediaInfo ModifyMediaStorageClass ModifyPersonSample ModifyProcessImageAsyncTemplate \
    ModifyQualityInspectTemplate ModifyRebuildMediaTemplate ModifyReviewTemplate ModifyRoundPlay ModifySampleSnapshotTemplate \
    ModifySnapshotByTimeOffsetTemplate ModifySubAppIdInfo ModifySubAppIdStatus ModifySuperPlayerConfig ModifyTranscodeTemplate \
    ModifyVodDomainAccelerateConfig ModifyVodDomainConfig ModifyWatermarkTemplate ModifyWordSample ParseStreamingManifest ProcessImage \
    ProcessImageAsync ProcessMedia ProcessMediaByMPS ProcessMediaByProcedure ProcessMediaByUrl PullEvents PullUpload PushUrlCache RebuildMedia \
    RebuildMediaByTemplate RefreshUrlCache RemoveWatermark ResetProcedureTemplate RestoreMedia ReviewAudioVideo ReviewImage SearchMedia \
    SearchMediaBySemantics SetCLSPushTarget SetDrmKeyProviderInfo SetVodDomainCertificate SimpleHlsClip SplitMedia StartCDNDomain \
    TextToSpeechAsync TextToSpeechSync UpdateAigcApiToken UpdateVoice VerifyDomainRecord VideoDepthEstimation WeChatMiniProgramPublish";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        assert_eq!(family("CreateRecordTask"), Some(Version::Live));
        assert_eq!(family("DescribeLiveForbidStreamList"), Some(Version::Live));
        assert_eq!(family("UnBindLiveDomainCert"), Some(Version::Live));
        assert_eq!(family("ApplyUpload"), Some(Version::Vod));
        assert_eq!(family("WeChatMiniProgramPublish"), Some(Version::Vod));
        assert_eq!(family("CreateRecordTasks"), None);
        assert_eq!(family(""), None);
        assert!(!VOD.split_whitespace().any(|name| LIVE.split_whitespace().any(|other| other == name)));
    }
}
